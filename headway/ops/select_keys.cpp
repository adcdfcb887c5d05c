// Scores block by block and the choice among them. Not for: gradients.
#include "headway/ops/select_keys.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include <ATen/Functions.h>
#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>

#include "headway/base/error.h"
#include "headway/ops/internal/arguments.h"
#include "headway/ops/internal/index_blocks.h"

namespace headway::ops {
namespace {

constexpr char kOp[] = "select_keys";
constexpr int64_t kBlockNumbers = int64_t{1} << 20;  // of one buffer
constexpr int64_t kMostRows = 64;

/// The `count` best of `scores`, as ascending places; `buffer` is overwritten.
template <class Real>
void choose(const Real* scores, int64_t visible, int64_t count, std::vector<Real>& buffer,
            int64_t first_key, int64_t* chosen) {
  if (visible <= count) {
    for (int64_t u = 0; u < visible; ++u) chosen[u] = first_key + u;
    return;
  }
  buffer.resize(static_cast<size_t>(visible));
  for (int64_t u = 0; u < visible; ++u) {
    buffer[u] = std::isnan(scores[u]) ? -std::numeric_limits<Real>::infinity() : scores[u];
  }
  const std::vector<Real> clean = buffer;
  std::nth_element(buffer.begin(), buffer.begin() + (count - 1), buffer.end(), std::greater<>());
  const Real least = buffer[count - 1];
  int64_t equal = count;  // places left for scores that equal the least one
  for (const Real score : clean) equal -= score > least ? 1 : 0;
  int64_t left = count;
  for (int64_t u = visible - 1; left > 0; --u) {
    const bool takes = clean[u] > least || (clean[u] == least && equal-- > 0);
    if (takes) chosen[--left] = first_key + u;
  }
}

template <class Real>
void choose_rows(const at::Tensor& scores, const internal::IndexBlock& block, at::Tensor& chosen) {
  const int64_t count = chosen.size(1);
  const Real* data = scores.const_data_ptr<Real>();
  int64_t* out = chosen.data_ptr<int64_t>() + block.row * count;
  at::parallel_for(0, block.rows, 1, [&](int64_t begin, int64_t end) {
    std::vector<Real> buffer;
    for (int64_t i = begin; i < end; ++i) {
      const int64_t visible = std::clamp<int64_t>(block.seen + i, 0, block.keys);
      choose(data + i * block.keys, visible, count, buffer, block.first_key, out + i * count);
    }
  });
}

}  // namespace

namespace internal {

std::vector<IndexBlock> index_blocks(const Sequences& sequences, int64_t width) {
  std::vector<IndexBlock> blocks;
  for (int64_t n = 0; n < sequences.num_sequences(); ++n) {
    const int64_t queries = sequences.cu_q[n + 1] - sequences.cu_q[n];
    const int64_t keys = sequences.cu_k[n + 1] - sequences.cu_k[n];
    const int64_t cost = std::max<int64_t>(keys * width, 1);
    const int64_t most = std::clamp<int64_t>(kBlockNumbers / cost, 1, kMostRows);
    for (int64_t i = 0; i < queries; i += most) {
      const int64_t rows = std::min(most, queries - i);
      const int64_t last = keys - queries + i + rows;
      if (last <= 0) continue;
      blocks.push_back({sequences.cu_q[n] + i, rows, sequences.cu_k[n], last - rows + 1, last});
    }
  }
  return blocks;
}

void check_index(const char* op, const IndexInputs& in, const Sequences& sequences) {
  check_dims(op, "index q", in.q_TND, 3, "[T,N,D]");
  check_dims(op, "index k", in.k_SD, 2, "[S,D]");
  check_dims(op, "index w", in.w_TN, 2, "[T,N]");
  check_floating(op, "index q", in.q_TND);
  check_like(op, "index k", in.k_SD, "index q", in.q_TND);
  if (in.k_SD.size(1) != in.q_TND.size(2) || in.q_TND.size(2) < 1) {
    throw_shape(op, "index k", in.k_SD.sizes(),
                "[S," + std::to_string(in.q_TND.size(2)) + "], the channels of index q");
  }
  if (in.w_TN.sizes() != in.q_TND.sizes().slice(0, 2)) {
    throw_shape(op, "index w", in.w_TN.sizes(), "the tokens and heads of index q");
  }
  check_sequences(sequences, in.q_TND.size(0), in.k_SD.size(0), op);
}

}  // namespace internal

at::Tensor index_scores(const IndexInputs& in, const IndexOptions& options) {
  at::Tensor products_TNS =
      at::matmul(in.q_TND.flatten(0, 1), in.k_SD.t()).unflatten(0, in.q_TND.sizes().slice(0, 2));
  if (options.relu) products_TNS = products_TNS.relu_();
  return at::bmm(in.w_TN.unsqueeze(1), products_TNS).squeeze(1);
}

at::Tensor select_keys(const IndexInputs& in, const Sequences& sequences,
                       const IndexOptions& options) {
  internal::check_index(kOp, in, sequences);
  if (options.top_k < 1) {
    throw ConfigError("[select_keys] top_k = " + std::to_string(options.top_k) +
                      ", allowed 1 or more");
  }
  const at::NoGradGuard no_grad;
  const at::ScalarType wide = internal::accumulate_type(in.q_TND);
  const IndexInputs all{in.q_TND.to(wide), in.k_SD.to(wide), in.w_TN.to(wide)};
  at::Tensor chosen =
      at::full({in.q_TND.size(0), std::min(options.top_k, sequences.max_k)}, -1, at::kLong);
  for (const internal::IndexBlock& block : internal::index_blocks(sequences, in.q_TND.size(1))) {
    if (block.keys <= options.top_k) {  // all of them: nothing to compare
      choose_rows<float>(at::empty({block.rows, block.keys}, at::kFloat), block, chosen);
      continue;
    }
    const IndexInputs part{all.q_TND.narrow(0, block.row, block.rows),
                           all.k_SD.narrow(0, block.first_key, block.keys),
                           all.w_TN.narrow(0, block.row, block.rows)};
    const at::Tensor scores = index_scores(part, options).cpu().contiguous();
    if (wide == at::kDouble) {
      choose_rows<double>(scores, block, chosen);
    } else {
      choose_rows<float>(scores, block, chosen);
    }
  }
  return chosen;
}

}  // namespace headway::ops
