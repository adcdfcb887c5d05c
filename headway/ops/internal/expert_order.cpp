// Counting sort of pairs by expert. Not for: argument checks (experts.cpp).
#include "headway/ops/internal/expert_order.h"

#include <ATen/core/Tensor.h>

namespace headway::ops::internal {

ExpertOrder expert_order(const at::Tensor& experts_TK, int64_t num_experts) {
  ExpertOrder order;
  order.top_k = experts_TK.size(1);
  order.offsets.assign(num_experts + 1, 0);
  const int64_t pairs = experts_TK.numel();
  const int64_t* expert = experts_TK.const_data_ptr<int64_t>();
  for (int64_t pair = 0; pair < pairs; ++pair) {
    if (expert[pair] >= 0) ++order.offsets[expert[pair] + 1];
  }
  for (int64_t e = 0; e < num_experts; ++e) order.offsets[e + 1] += order.offsets[e];
  order.pairs.resize(order.rows());
  order.places.assign(pairs, -1);
  std::vector<int64_t> next(order.offsets.begin(), order.offsets.end() - 1);
  for (int64_t pair = 0; pair < pairs; ++pair) {
    if (expert[pair] < 0) continue;
    const int64_t row = next[expert[pair]]++;
    order.pairs[row] = pair;
    order.places[pair] = row;
  }
  return order;
}

}  // namespace headway::ops::internal
