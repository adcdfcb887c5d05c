// Argument checks, kernel table and autograd node of the sigmoid gate. Not for: arithmetic.
#include "headway/ops/gate.h"

#include <torch/csrc/autograd/custom_function.h>

#include "headway/ops/internal/arguments.h"
#include "headway/ops/internal/gate_kernel.h"
#include "headway/ops/kernel_table.h"
#include "headway/ops/reference/gate_reference.h"

namespace headway::ops {
namespace {

using internal::GateArguments;
using internal::GateKernel;
using internal::throw_shape;

constexpr char kOp[] = "sigmoid_gate";

constexpr GateKernel kKernels[] = {
    {"simd",
     true,
     internal::gate_simd_supports,
     {internal::gate_simd_forward, internal::gate_simd_backward}},
    {"reference",
     false,
     [](const GateArguments&) { return Support::yes(); },
     {reference::gate_forward, reference::gate_backward}},
};

[[maybe_unused]] const bool kRegistered = register_table(kOp, kKernels);

void check_arguments(const at::Tensor& x, const at::Tensor& gate) {
  internal::check_dims(kOp, "x", x, 3, "[T,H,V]");
  internal::check_floating(kOp, "x", x);
  if (x.size(2) < 1) throw_shape(kOp, "x", x.sizes(), "[T,H,V] with V >= 1");
  if (x.size(2) > 1 && x.stride(2) != 1) {
    throw_shape(kOp, "x", x.strides(), "strides with a contiguous last dimension");
  }
  std::ostringstream allowed;
  allowed << x.sizes().slice(0, 2) << " (head-wise) or " << x.sizes() << " (element-wise)";
  if (!gate.defined()) throw_shape(kOp, "gate", "undefined", allowed.str());
  if (gate.sizes() != x.sizes() && gate.sizes() != x.sizes().slice(0, 2)) {
    throw_shape(kOp, "gate", gate.sizes(), allowed.str());
  }
  internal::check_like(kOp, "gate", gate, "x", x);
}

class GateFunction : public torch::autograd::Function<GateFunction> {
 public:
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& x,
                            const at::Tensor& gate) {
    context->save_for_backward({x, gate});
    const GateArguments arguments{x, gate};
    return select_kernel(kOp, kKernels, arguments).run.forward(arguments);
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 const torch::autograd::variable_list& grads) {
    const auto saved = context->get_saved_variables();
    const GateArguments arguments{saved[0], saved[1]};
    auto gradients = select_kernel(kOp, kKernels, arguments).run.backward(arguments, grads[0]);
    return {gradients.x, gradients.gate};
  }
};

}  // namespace

at::Tensor sigmoid_gate(const at::Tensor& x_THV, const at::Tensor& gate) {
  check_arguments(x_THV, gate);
  if (!internal::records_gradient(x_THV, gate)) {
    const GateArguments arguments{x_THV, gate};
    return select_kernel(kOp, kKernels, arguments).run.forward(arguments);
  }
  return GateFunction::apply(x_THV, gate);
}

}  // namespace headway::ops
