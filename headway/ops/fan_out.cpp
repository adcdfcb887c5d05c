// See fan_out.h. Not for: arithmetic besides the sum of gradients.
#include "headway/ops/fan_out.h"

#include <ATen/Functions.h>
#include <torch/csrc/autograd/custom_function.h>

#include "headway/ops/internal/alias.h"
#include "headway/ops/internal/arguments.h"

namespace headway::ops {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

std::vector<at::Tensor> views_of(const at::Tensor& x, int64_t count) {
  std::vector<at::Tensor> views;
  for (int64_t i = 0; i < count; ++i) views.push_back(internal::alias_run(x, 0, 0, x.size(0)));
  return views;
}

class FanOutFunction : public torch::autograd::Function<FanOutFunction> {
 public:
  static variable_list forward(AutogradContext* context, const at::Tensor& x, int64_t count) {
    context->set_materialize_grads(false);
    return views_of(x, count);
  }

  static variable_list backward(AutogradContext*, const variable_list& grads) {
    at::Tensor sum;
    at::ScalarType type = at::kFloat;
    for (const at::Tensor& grad : grads) {
      if (!grad.defined()) continue;
      type = grad.scalar_type();
      const at::Tensor wide = grad.to(internal::accumulate_type(grad));
      sum = sum.defined() ? at::add(sum, wide) : wide;
    }
    return {sum.defined() ? sum.to(type) : sum, at::Tensor()};
  }
};

}  // namespace

std::vector<at::Tensor> fan_out(const at::Tensor& x, int64_t count) {
  if (count < 1) internal::throw_shape("fan_out", "count", count, "1 or more");
  if (count == 1) return {x};
  if (!internal::records_gradient(x)) return views_of(x, count);
  return FanOutFunction::apply(x, count);
}

}  // namespace headway::ops
