// Argument checks, kernel table and autograd node of the gated norm. Not for: arithmetic.
#include "headway/ops/gated_norm.h"

#include <cmath>
#include <optional>

#include <torch/csrc/autograd/custom_function.h>

#include "headway/ops/internal/arguments.h"
#include "headway/ops/internal/gated_norm_kernel.h"
#include "headway/ops/kernel_table.h"
#include "headway/ops/reference/gated_norm_reference.h"

namespace headway::ops {
namespace {

using internal::GatedNormArguments;
using internal::GatedNormKernel;
using internal::throw_shape;
using torch::autograd::variable_list;

constexpr char kOp[] = "gated_rms_norm";

constexpr GatedNormKernel kKernels[] = {
    {"simd",
     true,
     internal::gated_norm_simd_supports,
     {internal::gated_norm_simd_forward, internal::gated_norm_simd_backward}},
    {"reference",
     false,
     [](const GatedNormArguments&) { return Support::yes(); },
     {reference::gated_norm_forward, reference::gated_norm_backward}},
};

[[maybe_unused]] const bool kRegistered = register_table(kOp, kKernels);

void check_rows(const char* name, const at::Tensor& x) {
  if (!x.defined()) throw_shape(kOp, name, "undefined", "a tensor […,C]");
  internal::check_floating(kOp, name, x);
  if (x.dim() < 1 || x.size(-1) < 1) throw_shape(kOp, name, x.sizes(), "[…,C] with C >= 1");
  if (x.size(-1) > 1 && x.stride(-1) != 1) {
    throw_shape(kOp, name, x.strides(), "strides with a contiguous last dimension");
  }
}

void check_weight(const at::Tensor& x, const at::Tensor& weight, NormFlavour flavour) {
  const std::string wanted = "[" + std::to_string(x.size(-1)) + "]";
  if (flavour == NormFlavour::kNoWeight) {
    if (weight.defined()) throw_shape(kOp, "weight", weight.sizes(), "none for this flavour");
    return;
  }
  if (!weight.defined()) throw_shape(kOp, "weight", "undefined", "a tensor " + wanted);
  if (weight.dim() != 1 || weight.size(0) != x.size(-1)) {
    throw_shape(kOp, "weight", weight.sizes(), wanted);
  }
  if (weight.scalar_type() != x.scalar_type() && weight.scalar_type() != at::kFloat) {
    throw_shape(kOp, "weight", weight.scalar_type(),
                std::string(c10::toString(x.scalar_type())) + ", the dtype of x, or Float");
  }
}

void check_arguments(const at::Tensor& x, const at::Tensor& z, const at::Tensor& weight,
                     const GatedNormOptions& options) {
  check_rows("x", x);
  check_rows("z", z);
  internal::check_like(kOp, "z", z, "x", x);
  if (z.sizes() != x.sizes()) {
    std::ostringstream shape;
    shape << x.sizes() << ", the shape of x";
    throw_shape(kOp, "z", z.sizes(), shape.str());
  }
  check_weight(x, weight, options.flavour);
  if (!(options.eps >= 0) || !std::isfinite(options.eps)) {
    throw_shape(kOp, "eps", options.eps, "a finite number >= 0");
  }
}

class GatedNormFunction : public torch::autograd::Function<GatedNormFunction> {
 public:
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& x,
                            const at::Tensor& z, const std::optional<at::Tensor>& weight,
                            const GatedNormOptions& options) {
    const GatedNormArguments arguments{x, z, weight.value_or(at::Tensor()), options};
    auto out = select_kernel(kOp, kKernels, arguments).run.forward(arguments);
    context->save_for_backward({x, z, arguments.weight, out.rstd});
    context->saved_data["eps"] = options.eps;
    context->saved_data["flavour"] = static_cast<int64_t>(options.flavour);
    context->saved_data["gate"] = static_cast<int64_t>(options.gate);
    return out.y;
  }

  static variable_list backward(torch::autograd::AutogradContext* context,
                                const variable_list& grads) {
    const auto saved = context->get_saved_variables();
    auto& data = context->saved_data;
    const GatedNormOptions options{data["eps"].toDouble(),
                                   static_cast<NormFlavour>(data["flavour"].toInt()),
                                   static_cast<NormGate>(data["gate"].toInt())};
    const GatedNormArguments arguments{saved[0], saved[1], saved[2], options};
    auto gradients =
        select_kernel(kOp, kKernels, arguments).run.backward(arguments, saved[3], grads[0]);
    return {gradients.x, gradients.z, gradients.weight, at::Tensor()};
  }
};

}  // namespace

at::Tensor gated_rms_norm(const at::Tensor& x, const at::Tensor& z, const at::Tensor& weight,
                          const GatedNormOptions& options) {
  check_arguments(x, z, weight, options);
  if (!internal::records_gradient(x, z, weight)) {
    const GatedNormArguments arguments{x, z, weight, options};
    return select_kernel(kOp, kKernels, arguments).run.forward(arguments).y;
  }
  const auto maybe = weight.defined() ? std::optional<at::Tensor>(weight) : std::nullopt;
  return GatedNormFunction::apply(x, z, maybe, options);
}

}  // namespace headway::ops
