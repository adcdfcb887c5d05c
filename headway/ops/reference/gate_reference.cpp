// The gate as its formula reads; head-wise is a broadcast. Not for: argument checks (gate.cpp).
#include "headway/ops/reference/gate_reference.h"

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>

#include "headway/ops/internal/arguments.h"

namespace headway::ops::reference {
namespace {

/// The gate in the accumulation dtype, [T,H,1] or [T,H,V].
at::Tensor wide_gate(const internal::GateArguments& arguments) {
  const at::Tensor gate = arguments.gate.to(internal::accumulate_type(arguments.x));
  return arguments.head_wise() ? gate.unsqueeze(-1) : gate;
}

}  // namespace

at::Tensor gate_forward(const internal::GateArguments& arguments) {
  const at::Tensor& x = arguments.x;
  const at::Tensor sigma = wide_gate(arguments).sigmoid();
  return (x.to(sigma.scalar_type()) * sigma).to(x.scalar_type()).contiguous();
}

internal::GateGradients gate_backward(const internal::GateArguments& arguments,
                                      const at::Tensor& d_y) {
  const at::Tensor& x = arguments.x;
  const at::Tensor gate = wide_gate(arguments);
  const at::Tensor sigma = gate.sigmoid();
  const at::Tensor wide = d_y.to(sigma.scalar_type());
  at::Tensor product = wide * x.to(sigma.scalar_type());
  if (arguments.head_wise()) product = product.sum(-1, /*keepdim=*/true);
  // 1 - σ(g) as σ(-g): no cancellation for large gates.
  const at::Tensor d_gate = sigma * (-gate).sigmoid() * product;
  internal::GateGradients gradients;
  gradients.x = (wide * sigma).to(x.scalar_type()).contiguous();
  gradients.gate = d_gate.to(x.scalar_type()).reshape(arguments.gate.sizes()).contiguous();
  return gradients;
}

}  // namespace headway::ops::reference
