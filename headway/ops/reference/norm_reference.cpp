// Norms as their formulas read. Not for: argument checks (norm.cpp).
#include "headway/ops/reference/norm_reference.h"

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>

#include "headway/ops/internal/arguments.h"

namespace headway::ops::reference {
namespace {

using internal::NormArguments;

/// The factor of x̂ in the accumulation dtype, or undefined.
at::Tensor factor_of(const NormArguments& arguments, at::ScalarType type) {
  if (!arguments.weight.defined()) return {};
  const at::Tensor weight = arguments.weight.to(type);
  const bool add_one =
      !arguments.options.layer && arguments.options.flavour == NormFlavour::kZeroCentered;
  return add_one ? weight + 1 : weight;
}

}  // namespace

internal::NormForward norm_forward(const NormArguments& arguments) {
  const at::ScalarType type = internal::accumulate_type(arguments.x);
  const auto& options = arguments.options;
  internal::NormForward out;
  at::Tensor x = arguments.x;
  if (arguments.delta.defined()) x = out.sum = (x + arguments.delta).contiguous();
  at::Tensor centred = x.to(type);
  if (options.layer) {
    const at::Tensor mean = centred.mean(-1, /*keepdim=*/true);
    out.mean = mean.squeeze(-1);
    centred = centred - mean;
  }
  const at::Tensor rstd = (centred.square().mean(-1, /*keepdim=*/true) + options.eps).rsqrt();
  out.rstd = rstd.squeeze(-1);
  at::Tensor y = centred * rstd;
  if (!options.layer && options.flavour == NormFlavour::kPlain) y = y.to(x.scalar_type()).to(type);
  if (const at::Tensor factor = factor_of(arguments, type); factor.defined()) y = y * factor;
  if (arguments.bias.defined()) y = y + arguments.bias.to(type);
  out.y = y.to(x.scalar_type()).contiguous();
  return out;
}

internal::NormGradients norm_backward(const NormArguments& arguments,
                                      const internal::NormBackwardArguments& wanted) {
  const at::Tensor& x = arguments.x;
  const at::ScalarType type = internal::accumulate_type(x);
  const int64_t channels = x.size(-1), rows = x.numel() / channels;
  const at::Tensor rstd = wanted.rstd.unsqueeze(-1), d_y = wanted.d_y.to(type);
  const bool layer = arguments.options.layer;
  const at::Tensor x_hat = (layer ? x.to(type) - wanted.mean.unsqueeze(-1) : x.to(type)) * rstd;
  const at::Tensor factor = factor_of(arguments, type);
  const at::Tensor d_hat = factor.defined() ? d_y * factor : d_y;
  at::Tensor d_x = d_hat - x_hat * (d_hat * x_hat).mean(-1, /*keepdim=*/true);
  if (layer) d_x = d_x - d_hat.mean(-1, /*keepdim=*/true);
  d_x = rstd * d_x;
  if (wanted.d_sum.defined()) d_x = d_x + wanted.d_sum.to(type);

  internal::NormGradients gradients;
  gradients.x = d_x.to(x.scalar_type()).contiguous();
  if (wanted.weight && arguments.weight.defined()) {
    gradients.weight =
        (d_y * x_hat).reshape({rows, channels}).sum(0).to(arguments.weight.scalar_type());
  }
  if (wanted.bias && arguments.bias.defined()) {
    gradients.bias = d_y.reshape({rows, channels}).sum(0).to(arguments.bias.scalar_type());
  }
  return gradients;
}

}  // namespace headway::ops::reference
