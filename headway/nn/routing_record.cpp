// See routing_record.h. Not for: routing.
#include "headway/nn/routing_record.h"

#include <utility>

#include <ATen/TensorOperators.h>

namespace headway::nn {

void RoutingRecord::add_loss(const at::Tensor& loss) {
  loss_ = loss_.defined() ? loss_ + loss : loss;
}

at::Tensor RoutingRecord::take_loss() { return std::exchange(loss_, at::Tensor()); }

}  // namespace headway::nn
