// Pairs (token, expert) in order of their expert. Not for: callers of the op (ops/experts.h).
// Legend: T tokens, K experts a token chooses, E experts, N pairs that are not dropped.
#pragma once

#include <cstdint>
#include <vector>

namespace at {
class Tensor;
}

namespace headway::ops::internal {

/// Row n of the sorted order is pair `pairs[n]` = t·K + j; rows of expert e are [offsets[e],
/// offsets[e+1]), tokens rising. `places[pair]` is its row, or -1 for a dropped pair.
struct ExpertOrder {
  int64_t top_k = 0;
  std::vector<int64_t> offsets;  // [E+1]
  std::vector<int64_t> pairs;    // [N]
  std::vector<int64_t> places;   // [T·K]

  int64_t rows() const { return offsets.back(); }
  int64_t token(int64_t row) const { return pairs[row] / top_k; }
};

/// experts: int64 [T,K] contiguous on the CPU, below `num_experts`; negative ones are dropped.
ExpertOrder expert_order(const at::Tensor& experts_TK, int64_t num_experts);

}  // namespace headway::ops::internal
