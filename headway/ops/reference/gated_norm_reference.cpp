// Not for: argument checks (gated_norm.cpp).
#include "headway/ops/reference/gated_norm_reference.h"

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>

#include "headway/ops/internal/arguments.h"

namespace headway::ops::reference {
namespace {

using internal::GatedNormArguments;

/// w' in the dtype of the sums; 1 without a weight.
at::Tensor factor_of(const GatedNormArguments& a, at::ScalarType type) {
  if (!a.weight.defined()) return at::ones({}, a.x.options().dtype(type));
  const at::Tensor weight = a.weight.to(type);
  return a.options.flavour == NormFlavour::kZeroCentered ? weight + 1 : weight;
}

at::Tensor gate_of(const GatedNormArguments& a, const at::Tensor& z) {
  return a.options.gate == NormGate::kSilu ? z * z.sigmoid() : z.sigmoid();
}

at::Tensor gate_slope(const GatedNormArguments& a, const at::Tensor& z) {
  // 1 - σ(z) as σ(-z): no cancellation for large gates.
  const at::Tensor sigma = z.sigmoid(), rest = (-z).sigmoid();
  return a.options.gate == NormGate::kSilu ? sigma * (1 + z * rest) : sigma * rest;
}

}  // namespace

internal::GatedNormForward gated_norm_forward(const GatedNormArguments& a) {
  const at::ScalarType type = internal::accumulate_type(a.x);
  const at::Tensor x = a.x.to(type);
  const at::Tensor rstd = (x.square().mean(-1, /*keepdim=*/true) + a.options.eps).rsqrt();
  const at::Tensor y = x * rstd * factor_of(a, type) * gate_of(a, a.z.to(type));
  return {y.to(a.x.scalar_type()).contiguous(), rstd.squeeze(-1)};
}

internal::GatedNormGradients gated_norm_backward(const GatedNormArguments& a,
                                                 const at::Tensor& rstd_rows,
                                                 const at::Tensor& d_y) {
  const at::ScalarType type = internal::accumulate_type(a.x);
  const at::Tensor rstd = rstd_rows.unsqueeze(-1), z = a.z.to(type), wide = d_y.to(type);
  const at::Tensor x_hat = a.x.to(type) * rstd, factor = factor_of(a, type);
  const at::Tensor gated = wide * gate_of(a, z), inner = gated * factor;
  internal::GatedNormGradients gradients;
  gradients.x = (rstd * (inner - x_hat * (inner * x_hat).mean(-1, /*keepdim=*/true)))
                    .to(a.x.scalar_type())
                    .contiguous();
  gradients.z = (wide * factor * x_hat * gate_slope(a, z)).to(a.z.scalar_type()).contiguous();
  if (a.weight.defined()) {
    gradients.weight =
        (gated * x_hat).reshape({-1, a.x.size(-1)}).sum(0).to(a.weight.scalar_type());
  }
  return gradients;
}

}  // namespace headway::ops::reference
