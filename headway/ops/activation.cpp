// Argument checks, kernel table and autograd node of the activations. Not for: arithmetic.
#include "headway/ops/activation.h"

#include <cmath>

#include <torch/csrc/autograd/custom_function.h>

#include "headway/ops/internal/activation_kernel.h"
#include "headway/ops/internal/arguments.h"
#include "headway/ops/kernel_table.h"
#include "headway/ops/reference/activation_reference.h"

namespace headway::ops {
namespace {

using internal::ActivationArguments;
using internal::ActivationKernel;
using internal::throw_shape;

// Name in HEADWAY_KERNEL of both functions.
constexpr char kOp[] = "activation";

constexpr ActivationKernel kKernels[] = {
    {"simd",
     true,
     internal::activation_simd_supports,
     {internal::activation_simd_forward, internal::activation_simd_backward}},
    {"reference",
     false,
     [](const ActivationArguments&) { return Support::yes(); },
     {reference::activation_forward, reference::activation_backward}},
};

[[maybe_unused]] const bool kRegistered = register_table(kOp, kKernels);

at::Tensor run_forward(const ActivationArguments& arguments) {
  return select_kernel(kOp, kKernels, arguments).run.forward(arguments);
}

class ActivationFunction : public torch::autograd::Function<ActivationFunction> {
 public:
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& x,
                            ActivationKind kind, bool gated, const GatedOptions& options) {
    context->save_for_backward({x});
    context->saved_data["kind"] = static_cast<int64_t>(kind);
    context->saved_data["gated"] = gated;
    context->saved_data["limit"] = options.limit;
    context->saved_data["limit_input"] = options.limit_input;
    context->saved_data["offset"] = options.offset;
    return run_forward({x, kind, gated, options});
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 const torch::autograd::variable_list& grads) {
    auto& data = context->saved_data;
    const GatedOptions options{data["limit"].toDouble(), data["limit_input"].toBool(),
                               data["offset"].toDouble()};
    const ActivationArguments arguments{context->get_saved_variables()[0],
                                        static_cast<ActivationKind>(data["kind"].toInt()),
                                        data["gated"].toBool(), options};
    at::Tensor none;
    return {select_kernel(kOp, kKernels, arguments).run.backward(arguments, grads[0]), none, none,
            none};
  }
};

at::Tensor run(const ActivationArguments& arguments) {
  if (!internal::records_gradient(arguments.x)) return run_forward(arguments);
  return ActivationFunction::apply(arguments.x, arguments.kind, arguments.gated, arguments.options);
}

}  // namespace

at::Tensor gated_activation(const at::Tensor& gate_up, ActivationKind kind,
                            const GatedOptions& options) {
  constexpr char kName[] = "gated_activation";
  if (!gate_up.defined()) throw_shape(kName, "gate_up", "undefined", "a tensor […,2F]");
  internal::check_floating(kName, "gate_up", gate_up);
  if (gate_up.dim() < 1 || gate_up.size(-1) < 2 || gate_up.size(-1) % 2 != 0) {
    throw_shape(kName, "gate_up", gate_up.sizes(), "[…,2F], an even last dimension >= 2");
  }
  if (!(options.limit >= 0) || !std::isfinite(options.limit)) {
    throw_shape(kName, "limit", options.limit, "0 (none) or a positive finite number");
  }
  if (!std::isfinite(options.offset)) throw_shape(kName, "offset", options.offset, "finite");
  return run({gate_up.contiguous(), kind, true, options});
}

at::Tensor activation(const at::Tensor& x, ActivationKind kind) {
  if (!x.defined()) throw_shape("activation", "x", "undefined", "a tensor");
  internal::check_floating("activation", "x", x);
  return run({x.contiguous(), kind, false, {}});
}

}  // namespace headway::ops
