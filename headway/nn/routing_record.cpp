// See routing_record.h. Not for: routing.
#include "headway/nn/routing_record.h"

#include <utility>

#include <ATen/TensorOperators.h>

namespace headway::nn {

void RoutingRecord::add_loss(const at::Tensor& loss) {
  loss_ = loss_.defined() ? loss_ + loss : loss;
}

void RoutingRecord::add_index_loss(const at::Tensor& loss) {
  index_loss_ += loss.item<double>();
  add_loss(loss);
}

double RoutingRecord::take_index_loss() { return std::exchange(index_loss_, 0.0); }

at::Tensor RoutingRecord::take_loss() { return std::exchange(loss_, at::Tensor()); }

}  // namespace headway::nn
