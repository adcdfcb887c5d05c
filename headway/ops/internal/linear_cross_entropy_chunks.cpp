// Chunks of linear + cross-entropy, and its kernel by library calls.
// Not for: the fast CPU kernel (cpu/cross_entropy.cpp).
#include <algorithm>

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>

#include "headway/ops/internal/arguments.h"
#include "headway/ops/internal/linear_cross_entropy_kernel.h"

namespace headway::ops::internal {
namespace {

constexpr int64_t kChunkBytes = int64_t{64} << 20;
constexpr int64_t kMinChunk = 256;

/// Turns logits [C,V] into the gradient of the loss by them, if wanted, and adds to the sums.
void softmax(at::Tensor& logits, const at::Tensor& labels_C, const CrossEntropyArguments& a,
             CrossEntropySums& sums) {
  at::Tensor z = logits.to(accumulate_type(logits));
  if (a.softcap > 0) z = at::tanh(z / a.softcap) * a.softcap;
  const at::Tensor labels = labels_C.unsqueeze(1);
  const at::Tensor lse = at::logsumexp(z, -1, /*keepdim=*/true);
  sums.ce += (lse - z.gather(1, labels)).sum(at::kDouble).item<double>();
  sums.z2 += lse.to(at::kDouble).square().sum().item<double>();
  if (!a.wants_dx && !a.wants_dw) return;
  at::Tensor dz = at::exp(z - lse) * (1 + 2 * a.z_loss * lse);
  dz.scatter_add_(1, labels, at::full_like(lse, -1.0));
  if (a.softcap > 0) dz = dz * (1 - (z / a.softcap).square());
  logits.copy_(dz / a.divisor);
}

}  // namespace

int64_t chunk_tokens(int64_t tokens, int64_t vocabulary, int64_t item_bytes) {
  const int64_t row_bytes = std::max<int64_t>(1, vocabulary * item_bytes);
  const int64_t limit = std::max(kMinChunk, kChunkBytes / row_bytes);
  const int64_t chunks = std::max<int64_t>(1, (tokens + limit - 1) / limit);
  return (tokens + chunks - 1) / chunks;
}

CrossEntropySums cross_entropy_library(const CrossEntropyArguments& a) {
  const int64_t tokens = a.x.size(0), vocabulary = a.weight.size(0);
  const int64_t step = chunk_tokens(tokens, vocabulary, a.x.element_size());
  at::Tensor buffer = at::empty({step, vocabulary}, a.x.options());
  CrossEntropySums sums;
  if (a.wants_dx) sums.dx = at::empty(a.x.sizes(), a.x.options());
  if (a.wants_dw) sums.dw = at::empty(a.weight.sizes(), a.weight.options());
  for (int64_t first = 0; first < tokens; first += step) {
    const int64_t count = std::min(step, tokens - first);
    const at::Tensor x = a.x.narrow(0, first, count);
    at::Tensor logits = buffer.narrow(0, 0, count);
    at::mm_out(logits, x, a.weight.t());
    softmax(logits, a.labels.narrow(0, first, count), a, sums);
    if (a.wants_dx) {
      at::Tensor dx = sums.dx.narrow(0, first, count);
      at::mm_out(dx, logits, a.weight);
    }
    if (!a.wants_dw) continue;
    if (first == 0) {
      at::mm_out(sums.dw, logits.t(), x);
    } else {
      sums.dw.addmm_(logits.t(), x);
    }
  }
  return sums;
}

}  // namespace headway::ops::internal
