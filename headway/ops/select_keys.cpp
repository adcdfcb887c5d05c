// Scores block by block and the choice among them. Not for: gradients.
#include "headway/ops/select_keys.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <utility>
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

template <class Real>
using Scored = std::pair<Real, int64_t>;

/// The `count` best of `scores`, as ascending places. Which of several equal scores are taken is
/// what at::topk does on a whole row in which keys out of sight have -inf: the same selection
/// algorithm over the same pairs, so that ties (exact zeros, of few heads) agree with the
/// references.
template <class Real>
void choose(const Real* scores, int64_t visible, int64_t count, std::vector<Scored<Real>>& row,
            int64_t first_key, int64_t* chosen) {
  if (visible <= count) {
    for (int64_t u = 0; u < visible; ++u) chosen[u] = first_key + u;
    return;
  }
  constexpr Real kUnseen = -std::numeric_limits<Real>::infinity();
  for (int64_t u = 0; u < static_cast<int64_t>(row.size()); ++u) {
    const bool counts = u < visible && !std::isnan(scores[u]);
    row[static_cast<size_t>(u)] = {counts ? scores[u] : kUnseen, u};
  }
  const auto better = [](const Scored<Real>& x, const Scored<Real>& y) {
    return x.first > y.first;
  };
  constexpr int64_t kFew = 64;  // at::topk sorts partially when so many times fewer are wanted
  if (count * kFew <= static_cast<int64_t>(row.size())) {
    std::partial_sort(row.begin(), row.begin() + count, row.end(), better);
  } else {
    std::nth_element(row.begin(), row.begin() + (count - 1), row.end(), better);
  }
  for (int64_t i = 0; i < count; ++i) {
    chosen[i] = first_key + row[static_cast<size_t>(i)].second;
  }
  std::sort(chosen, chosen + count);
}

template <class Real>
void choose_rows(const at::Tensor& scores, const internal::IndexBlock& block, at::Tensor& chosen) {
  const int64_t count = chosen.size(1);
  const Real* data = scores.const_data_ptr<Real>();
  int64_t* out = chosen.data_ptr<int64_t>() + block.row * count;
  at::parallel_for(0, block.rows, 1, [&](int64_t begin, int64_t end) {
    std::vector<Scored<Real>> row(static_cast<size_t>(block.total));
    for (int64_t i = begin; i < end; ++i) {
      const int64_t visible = std::clamp<int64_t>(block.seen + i, 0, block.keys);
      choose(data + i * block.keys, visible, count, row, block.first_key, out + i * count);
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
      blocks.push_back(
          {sequences.cu_q[n] + i, rows, sequences.cu_k[n], last - rows + 1, last, keys});
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
