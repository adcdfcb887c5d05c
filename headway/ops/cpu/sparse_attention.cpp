// Sparse attention on the CPU: every token gathers its rows into scratch memory of its thread and
// multiplies them by sgemm.
// Not for: float64 (reference).
// Legend: S key tokens, H heads, K channels of a key, V of a value, n keys of a token.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include <ATen/Functions.h>

#include "headway/ops/cpu/block_gemm.h"
#include "headway/ops/internal/sparse_attention_kernel.h"
#include "headway/ops/internal/tasks.h"

namespace headway::ops::internal {
namespace {

using cpu::block_gemm;

constexpr int64_t kTokensOfTask = 8;
// Backward adds up gradients of kv in so many places at most, and in as many as fit this many
// numbers: neither depends on the number of threads, so the order of sums does not either.
constexpr int64_t kMostParts = 8;
constexpr int64_t kPartNumbers = int64_t{1} << 25;

struct Sizes {
  int64_t tokens, heads, channels, values, keys;
  explicit Sizes(const SparseAttentionArguments& a)
      : tokens(a.q.size(0)),
        heads(a.q.size(1)),
        channels(a.q.size(2)),
        values(a.value_dim),
        keys(a.chosen.size(1)) {}
};

/// Scratch of one worker: the rows of a token, its probabilities, and gradients of both.
class Scratch {
 public:
  Scratch(const Sizes& s, bool backward)
      : rows(static_cast<size_t>(s.keys * s.channels)),
        p(static_cast<size_t>(s.heads * s.keys)),
        dp(backward ? p.size() : 0),
        d_rows(backward ? rows.size() : 0) {
    places.reserve(static_cast<size_t>(s.keys));
  }
  std::vector<float> rows, p, dp, d_rows;
  std::vector<int64_t> places;
};

void gather(const SparseAttentionArguments& a, const Sizes& s, int64_t token, Scratch& scratch) {
  const int64_t* chosen = a.chosen.const_data_ptr<int64_t>() + token * s.keys;
  const float* kv = a.kv.const_data_ptr<float>();
  scratch.places.clear();
  for (int64_t j = 0; j < s.keys; ++j) {
    if (chosen[j] < 0) continue;
    std::memcpy(scratch.rows.data() + static_cast<int64_t>(scratch.places.size()) * s.channels,
                kv + chosen[j] * s.channels, sizeof(float) * static_cast<size_t>(s.channels));
    scratch.places.push_back(chosen[j]);
  }
}

void softmax(float* z, int64_t count) {
  const float top = *std::max_element(z, z + count);
  float sum = 0.0F;
  for (int64_t j = 0; j < count; ++j) {
    z[j] = std::exp(z[j] - top);
    sum += z[j];
  }
  const float inverse = 1.0F / sum;
  for (int64_t j = 0; j < count; ++j) z[j] *= inverse;
}

/// p [H,n] of a token whose rows lie in `scratch`.
void probabilities(const SparseAttentionArguments& a, const Sizes& s, const float* q,
                   Scratch& scratch) {
  const auto n = static_cast<int64_t>(scratch.places.size());
  block_gemm(s.heads, n, s.channels, static_cast<float>(a.scale), {q, s.channels},
             {scratch.rows.data(), s.channels, true}, 0.0F, scratch.p.data(), n);
  for (int64_t h = 0; h < s.heads; ++h) softmax(scratch.p.data() + h * n, n);
}

/// dz [H,n] in place of dp, from p, dp and the output.
void score_gradients(const SparseAttentionArguments& a, const Sizes& s, const float* out,
                     const float* d_out, Scratch& scratch) {
  const auto n = static_cast<int64_t>(scratch.places.size());
  const auto scale = static_cast<float>(a.scale);
  for (int64_t h = 0; h < s.heads; ++h) {
    float mean = 0.0F;
    for (int64_t v = 0; v < s.values; ++v) mean += out[h * s.values + v] * d_out[h * s.values + v];
    float* dp = scratch.dp.data() + h * n;
    const float* p = scratch.p.data() + h * n;
    for (int64_t j = 0; j < n; ++j) dp[j] = p[j] * (dp[j] - mean) * scale;
  }
}

struct Gradients {
  const float* out;
  const float* d_out;
  float* d_q;
  float* d_kv;  // [S,K] of this part
};

void token_backward(const SparseAttentionArguments& a, const Sizes& s, int64_t token,
                    const Gradients& g, Scratch& scratch) {
  gather(a, s, token, scratch);
  const auto n = static_cast<int64_t>(scratch.places.size());
  if (n == 0) return;
  const float* q = a.q.const_data_ptr<float>() + token * s.heads * s.channels;
  const float* d_out = g.d_out + token * s.heads * s.values;
  const float* rows = scratch.rows.data();
  probabilities(a, s, q, scratch);
  block_gemm(s.heads, n, s.values, 1.0F, {d_out, s.values}, {rows, s.channels, true}, 0.0F,
             scratch.dp.data(), n);
  score_gradients(a, s, g.out + token * s.heads * s.values, d_out, scratch);
  block_gemm(s.heads, s.channels, n, 1.0F, {scratch.dp.data(), n}, {rows, s.channels}, 0.0F,
             g.d_q + token * s.heads * s.channels, s.channels);
  float* d_rows = scratch.d_rows.data();
  block_gemm(n, s.channels, s.heads, 1.0F, {scratch.dp.data(), n, true}, {q, s.channels}, 0.0F,
             d_rows, s.channels);
  block_gemm(n, s.values, s.heads, 1.0F, {scratch.p.data(), n, true}, {d_out, s.values}, 1.0F,
             d_rows, s.channels);
  for (int64_t j = 0; j < n; ++j) {
    float* to = g.d_kv + scratch.places[j] * s.channels;
    for (int64_t c = 0; c < s.channels; ++c) to[c] += d_rows[j * s.channels + c];
  }
}

int64_t part_count(const SparseAttentionArguments& a, const Sizes& s) {
  const int64_t fit = kPartNumbers / std::max<int64_t>(a.kv.numel(), 1);
  const int64_t tasks = (s.tokens + kTokensOfTask - 1) / kTokensOfTask;
  return std::max<int64_t>(1, std::min({kMostParts, fit, tasks}));
}

}  // namespace

Support sparse_attention_cpu_supports(const SparseAttentionArguments& a) {
  if (!a.q.device().is_cpu()) {
    return Support::no("device " + a.q.device().str() + " is not the CPU");
  }
  if (a.q.scalar_type() != at::kFloat) {
    return Support::no("float64 is computed by the reference only");
  }
  return Support::yes();
}

at::Tensor sparse_attention_cpu_forward(const SparseAttentionArguments& a) {
  const Sizes s(a);
  at::Tensor out_THV = at::zeros({s.tokens, s.heads, s.values}, a.q.options());
  float* out = out_THV.data_ptr<float>();
  const float* q = a.q.const_data_ptr<float>();
  const int64_t tasks = (s.tokens + kTokensOfTask - 1) / kTokensOfTask;
  const int64_t workers = std::min(num_workers(), std::max<int64_t>(tasks, 1));
  std::vector<Scratch> scratch(static_cast<size_t>(workers), Scratch(s, false));
  run_tasks(workers, tasks, [&](int64_t worker, int64_t task) {
    Scratch& own = scratch[static_cast<size_t>(worker)];
    const int64_t end = std::min(s.tokens, (task + 1) * kTokensOfTask);
    for (int64_t t = task * kTokensOfTask; t < end; ++t) {
      gather(a, s, t, own);
      const auto n = static_cast<int64_t>(own.places.size());
      if (n == 0) continue;
      probabilities(a, s, q + t * s.heads * s.channels, own);
      block_gemm(s.heads, s.values, n, 1.0F, {own.p.data(), n}, {own.rows.data(), s.channels}, 0.0F,
                 out + t * s.heads * s.values, s.values);
    }
  });
  return out_THV;
}

SparseAttentionGradients sparse_attention_cpu_backward(const SparseAttentionArguments& a,
                                                       const at::Tensor& out,
                                                       const at::Tensor& d_out) {
  const Sizes s(a);
  const int64_t parts = part_count(a, s);
  const at::Tensor sums = at::zeros({parts, a.kv.size(0), a.kv.size(1)}, a.kv.options());
  SparseAttentionGradients grad{at::zeros_like(a.q), {}};
  const int64_t workers = std::min(num_workers(), parts);
  std::vector<Scratch> scratch(static_cast<size_t>(workers), Scratch(s, true));
  const int64_t tokens_of_part = (s.tokens + parts - 1) / parts;
  run_tasks(workers, parts, [&](int64_t worker, int64_t part) {
    const Gradients g{out.const_data_ptr<float>(), d_out.const_data_ptr<float>(),
                      grad.q.data_ptr<float>(), sums.data_ptr<float>() + part * a.kv.numel()};
    const int64_t end = std::min(s.tokens, (part + 1) * tokens_of_part);
    for (int64_t t = part * tokens_of_part; t < end; ++t) {
      token_backward(a, s, t, g, scratch[static_cast<size_t>(worker)]);
    }
  });
  grad.kv = parts == 1 ? sums.squeeze(0) : sums.sum(0);
  return grad;
}

}  // namespace headway::ops::internal
