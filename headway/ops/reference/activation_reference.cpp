// Activations and their derivatives as their formulas read. Not for: argument checks
// (activation.cpp).
#include "headway/ops/reference/activation_reference.h"

#include <numbers>

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>

#include "headway/base/error.h"
#include "headway/ops/internal/arguments.h"

namespace headway::ops::reference {
namespace {

const double kRootTwoOverPi = std::sqrt(2 / std::numbers::pi);
constexpr double kCubic = 0.044715;
constexpr double kQuick = 1.702;

/// 2·sqrt(2/π)·(x + 0.044715·x³): tanh-gelu is x·σ of it, as (1 + tanh(u))/2 = σ(2u).
at::Tensor gelu_tanh_angle(const at::Tensor& x) {
  return 2 * kRootTwoOverPi * (x + kCubic * x.pow(3));
}

at::Tensor normal_cdf(const at::Tensor& x) { return 0.5 * at::erfc(-x / std::numbers::sqrt2); }

at::Tensor value(const at::Tensor& x, ActivationKind kind) {
  switch (kind) {
    case ActivationKind::kSilu:
      return x * x.sigmoid();
    case ActivationKind::kGeluTanh:
      return x * gelu_tanh_angle(x).sigmoid();
    case ActivationKind::kGelu:
      return x * normal_cdf(x);
    case ActivationKind::kRelu:
      return x.relu();
    case ActivationKind::kQuickGelu:
      return x * (kQuick * x).sigmoid();
  }
  throw InternalError("[activation] kind is not in the enum");
}

at::Tensor derivative(const at::Tensor& x, ActivationKind kind) {
  switch (kind) {
    case ActivationKind::kSilu:
      return x.sigmoid() * (1 + x * (-x).sigmoid());
    case ActivationKind::kGeluTanh: {
      const at::Tensor angle = gelu_tanh_angle(x);
      const at::Tensor slope = 2 * kRootTwoOverPi * (1 + 3 * kCubic * x.square());
      return angle.sigmoid() * (1 + x * (-angle).sigmoid() * slope);
    }
    case ActivationKind::kGelu: {
      const double density = 1 / std::sqrt(2 * std::numbers::pi);
      return normal_cdf(x) + x * density * (-0.5 * x.square()).exp();
    }
    case ActivationKind::kRelu:
      return (x > 0).to(x.scalar_type());
    case ActivationKind::kQuickGelu:
      return (kQuick * x).sigmoid() * (1 + kQuick * x * (-kQuick * x).sigmoid());
  }
  throw InternalError("[activation] kind is not in the enum");
}

}  // namespace

at::Tensor activation_forward(const internal::ActivationArguments& arguments) {
  const at::Tensor x = arguments.x.to(internal::accumulate_type(arguments.x));
  if (!arguments.gated) return value(x, arguments.kind).to(arguments.x.scalar_type());
  const auto halves = x.chunk(2, -1);
  const auto& [limit, limit_input, offset] = arguments.options;
  const bool limits = limit > 0;
  at::Tensor gate = halves[0], up = halves[1];
  if (limits && limit_input) gate = gate.clamp_max(limit);
  at::Tensor act = value(gate, arguments.kind);
  if (limits && !limit_input) act = act.clamp_max(limit);
  if (limits) up = up.clamp(-limit, limit);
  return (act * (up + offset)).to(arguments.x.scalar_type());
}

at::Tensor activation_backward(const internal::ActivationArguments& arguments,
                               const at::Tensor& d_y) {
  const at::Tensor x = arguments.x.to(internal::accumulate_type(arguments.x));
  const at::Tensor wide = d_y.to(x.scalar_type());
  if (!arguments.gated) {
    return (wide * derivative(x, arguments.kind)).to(arguments.x.scalar_type());
  }
  const auto halves = x.chunk(2, -1);
  const auto& [limit, limit_input, offset] = arguments.options;
  const bool limits = limit > 0;
  at::Tensor gate = halves[0], held = halves[1];
  at::Tensor d_act = wide, d_up = wide;
  if (limits && limit_input) {
    d_act = d_act.masked_fill(gate > limit, 0);
    gate = gate.clamp_max(limit);
  }
  at::Tensor act = value(gate, arguments.kind);
  if (limits && !limit_input) {
    d_act = d_act.masked_fill(act > limit, 0);
    act = act.clamp_max(limit);
  }
  if (limits) {
    d_up = d_up.masked_fill(held.abs() > limit, 0);
    held = held.clamp(-limit, limit);
  }
  const at::Tensor d_gate = d_act * (held + offset) * derivative(gate, arguments.kind);
  return at::cat({d_gate, d_up * act}, -1).to(arguments.x.scalar_type());
}

}  // namespace headway::ops::reference
