// Argument checks, kernel table and the one autograd node of the norms. Not for: arithmetic.
#include "headway/ops/norm.h"

#include <cmath>
#include <optional>

#include <torch/csrc/autograd/custom_function.h>

#include "headway/ops/internal/arguments.h"
#include "headway/ops/internal/norm_kernel.h"
#include "headway/ops/kernel_table.h"
#include "headway/ops/reference/norm_reference.h"

namespace headway::ops {
namespace {

using internal::NormArguments;
using internal::NormKernel;
using internal::NormOptions;
using internal::throw_shape;
using torch::autograd::variable_list;

// Name in HEADWAY_KERNEL; error messages name the function instead.
constexpr char kOp[] = "norm";

constexpr NormKernel kKernels[] = {
    {"simd",
     true,
     internal::norm_simd_supports,
     {internal::norm_simd_forward, internal::norm_simd_backward}},
    {"reference",
     false,
     [](const NormArguments&) { return Support::yes(); },
     {reference::norm_forward, reference::norm_backward}},
};

[[maybe_unused]] const bool kRegistered = register_table(kOp, kKernels);

void check_input(const char* op, const char* name, const at::Tensor& x) {
  if (!x.defined()) throw_shape(op, name, "undefined", "a tensor […,C]");
  if (x.dim() < 1 || x.size(-1) < 1) throw_shape(op, name, x.sizes(), "[…,C] with C >= 1");
  internal::check_floating(op, name, x);
  if (x.size(-1) > 1 && x.stride(-1) != 1) {
    throw_shape(op, name, x.strides(), "strides with a contiguous last dimension");
  }
}

/// A weight or bias: [C] in x's dtype or float32.
void check_vector(const char* op, const char* name, const at::Tensor& vector, const at::Tensor& x) {
  if (vector.dim() != 1 || vector.size(0) != x.size(-1)) {
    throw_shape(op, name, vector.sizes(),
                "[" + std::to_string(x.size(-1)) + "], the last dimension of x");
  }
  if (vector.scalar_type() != x.scalar_type() && vector.scalar_type() != at::kFloat) {
    throw_shape(op, name, vector.scalar_type(),
                std::string(c10::toString(x.scalar_type())) + ", the dtype of x, or Float");
  }
  if (vector.device() != x.device()) {
    throw_shape(op, name, vector.device(), x.device().str() + ", the device of x");
  }
}

void check_eps(const char* op, double eps) {
  if (!(eps >= 0) || !std::isfinite(eps)) throw_shape(op, "eps", eps, "a finite number >= 0");
}

void check_rms(const char* op, const at::Tensor& x, const at::Tensor& weight, double eps,
               NormFlavour flavour) {
  if (flavour == NormFlavour::kNoWeight) {
    if (weight.defined()) throw_shape(op, "weight", weight.sizes(), "none for this flavour");
  } else if (!weight.defined()) {
    throw_shape(op, "weight", "undefined", "a tensor [" + std::to_string(x.size(-1)) + "]");
  } else {
    check_vector(op, "weight", weight, x);
  }
  check_eps(op, eps);
}

internal::NormForward run_forward(const NormArguments& arguments) {
  return select_kernel(kOp, kKernels, arguments).run.forward(arguments);
}

using MaybeTensor = std::optional<at::Tensor>;

/// What autograd wants for an argument that may be missing: no edge, rather than an undefined one.
MaybeTensor maybe(const at::Tensor& x) { return x.defined() ? MaybeTensor(x) : std::nullopt; }

/// Inputs x, delta?, weight?, bias? -> {y} or, with delta, {sum, y}.
class NormFunction : public torch::autograd::Function<NormFunction> {
 public:
  static variable_list forward(torch::autograd::AutogradContext* context, const at::Tensor& x,
                               const MaybeTensor& delta, const MaybeTensor& weight,
                               const MaybeTensor& bias, const NormOptions& options) {
    const NormArguments arguments{x, delta.value_or(at::Tensor()), weight.value_or(at::Tensor()),
                                  bias.value_or(at::Tensor()), options};
    auto out = run_forward(arguments);
    context->save_for_backward(
        {delta ? out.sum : x, arguments.weight, arguments.bias, out.mean, out.rstd});
    context->saved_data["eps"] = options.eps;
    context->saved_data["flavour"] = static_cast<int64_t>(options.flavour);
    context->saved_data["layer"] = options.layer;
    context->saved_data["with_delta"] = delta.has_value();
    context->set_materialize_grads(false);
    if (delta) return {out.sum, out.y};
    return {out.y};
  }

  static variable_list backward(torch::autograd::AutogradContext* context,
                                const variable_list& grads) {
    auto& data = context->saved_data;
    const bool with_delta = data["with_delta"].toBool();
    const at::Tensor& d_y = grads.back();
    at::Tensor none;
    if (!d_y.defined()) {
      if (!with_delta) return {none, none, none, none, none};
      return {grads[0], grads[0], none, none, none};
    }
    const auto saved = context->get_saved_variables();
    const NormOptions options{data["eps"].toDouble(),
                              static_cast<NormFlavour>(data["flavour"].toInt()),
                              data["layer"].toBool()};
    const NormArguments arguments{saved[0], none, saved[1], saved[2], options};
    // Edges exist for defined inputs only.
    size_t edge = with_delta ? 2 : 1;
    internal::NormBackwardArguments wanted{saved[3], saved[4], d_y, none};
    if (with_delta) wanted.d_sum = grads[0];
    wanted.weight = saved[1].defined() && context->needs_input_grad(edge++);
    wanted.bias = saved[2].defined() && context->needs_input_grad(edge);
    auto gradients = select_kernel(kOp, kKernels, arguments).run.backward(arguments, wanted);
    return {gradients.x, with_delta ? gradients.x : none, gradients.weight, gradients.bias, none};
  }
};

at::Tensor norm(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                const NormOptions& options) {
  if (!internal::records_gradient(x, weight, bias)) {
    return run_forward({x, at::Tensor(), weight, bias, options}).y;
  }
  return NormFunction::apply(x, std::nullopt, maybe(weight), maybe(bias), options)[0];
}

}  // namespace

at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& weight, double eps,
                    NormFlavour flavour) {
  check_input("rms_norm", "x", x);
  check_rms("rms_norm", x, weight, eps, flavour);
  return norm(x, weight, at::Tensor(), {eps, flavour, false});
}

at::Tensor layer_norm(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                      double eps) {
  check_input("layer_norm", "x", x);
  if (weight.defined()) check_vector("layer_norm", "weight", weight, x);
  if (bias.defined()) check_vector("layer_norm", "bias", bias, x);
  check_eps("layer_norm", eps);
  return norm(x, weight, bias, {eps, NormFlavour::kPlain, true});
}

std::pair<at::Tensor, at::Tensor> add_rms_norm(const at::Tensor& residual, const at::Tensor& delta,
                                               const at::Tensor& weight, double eps,
                                               NormFlavour flavour) {
  constexpr char kName[] = "add_rms_norm";
  check_input(kName, "residual", residual);
  check_input(kName, "delta", delta);
  if (delta.sizes() != residual.sizes()) {
    std::ostringstream shape;
    shape << residual.sizes() << ", the shape of residual";
    throw_shape(kName, "delta", delta.sizes(), shape.str());
  }
  internal::check_like(kName, "delta", delta, "residual", residual);
  check_rms(kName, residual, weight, eps, flavour);
  const NormOptions options{eps, flavour, false};
  if (!internal::records_gradient(residual, delta, weight)) {
    auto out = run_forward({residual, delta, weight, at::Tensor(), options});
    return {out.sum, out.y};
  }
  auto out = NormFunction::apply(residual, maybe(delta), maybe(weight), std::nullopt, options);
  return {out[0], out[1]};
}

}  // namespace headway::ops
