// Stages of the Gated DeltaNet mixer in the order they run. Not for: arithmetic (ops).
#include "headway/nn/gated_delta_net.h"

#include <cmath>

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>

#include "headway/base/error.h"
#include "headway/nn/mlp.h"
#include "headway/ops/activation.h"
#include "headway/ops/delta_gates.h"
#include "headway/ops/linear.h"

namespace headway::nn {
namespace {

constexpr double kUnitEps = 1e-6;

ops::NormFlavour flavour_of(const spec::NormSpec& norm) {
  switch (norm.weight) {
    case spec::NormWeight::kPlain:
      return ops::NormFlavour::kPlain;
    case spec::NormWeight::kZeroCentered:
      return ops::NormFlavour::kZeroCentered;
    case spec::NormWeight::kFp32:
      return ops::NormFlavour::kFp32Weight;
    case spec::NormWeight::kNone:
      return ops::NormFlavour::kNoWeight;
  }
  throw InternalError("[nn::GatedDeltaNet] norm weight is not in the enum");
}

/// The norm's product with a gate that has no fused op: act(z) ∘ y.
at::Tensor gate_by_activation(spec::DeltaGate gate, const at::Tensor& z, const at::Tensor& y) {
  const auto kind = gate == spec::DeltaGate::kGeluTanh ? ops::ActivationKind::kGeluTanh
                    : gate == spec::DeltaGate::kGelu   ? ops::ActivationKind::kGelu
                                                       : ops::ActivationKind::kRelu;
  return ops::gated_activation(at::cat({z, y}, -1), kind);
}

std::optional<Linear> low_rank(const std::optional<int64_t>& rank, const ParameterScope& scope,
                               const char* name) {
  if (!rank) return std::nullopt;
  return Linear(scope.child(name));
}

DeltaState* state_of(const MixerInput& input) {
  return input.state == nullptr ? nullptr : &std::get<DeltaState>(*input.state);
}

}  // namespace

GatedDeltaNet::GatedDeltaNet(const spec::GatedDeltaNetSpec& spec, const ParameterScope& scope)
    : spec_(spec),
      widths_(spec),
      in_(scope.child("in")),
      gate_up_(low_rank(spec.gate_rank, scope, "gate_up")),
      decay_up_(low_rank(spec.decay_rank, scope, "decay_up")),
      conv_C1W_(scope.take("conv.weight")),
      conv_bias_C_(scope.take_optional("conv.bias")),
      dt_bias_(scope.take("dt_bias")),
      log_rate_H_(scope.take("A_log")),
      norm_V_(scope.take_optional("norm.weight")),
      out_(scope.child("out")),
      rule_{1.0 / std::sqrt(static_cast<double>(spec.key_head_dim)), true, kUnitEps} {}

GatedDeltaNet::Parts GatedDeltaNet::project(const at::Tensor& x_TD) const {
  const int64_t heads = spec_.num_value_heads;
  const auto runs = ops::split_columns(
      in_.forward(x_TD), {widths_.conv, widths_.gate_rows, heads, widths_.decay_rows});
  at::Tensor beta = runs[2].sigmoid();
  if (spec_.negative_eigenvalues) beta = 2 * beta;
  const at::Tensor z = gate_up_ ? gate_up_->forward(runs[1]) : runs[1];
  return {runs[0], z.unflatten(1, {heads, spec_.value_head_dim}), beta, decay(runs[3])};
}

at::Tensor GatedDeltaNet::decay(const at::Tensor& a) const {
  if (!decay_up_) return ops::delta_decay(a, log_rate_H_, dt_bias_);
  const int64_t heads = spec_.num_value_heads;
  return ops::delta_decay(decay_up_->forward(a).unflatten(1, {heads, spec_.key_head_dim}),
                          log_rate_H_, dt_bias_.view({heads, spec_.key_head_dim}));
}

at::Tensor GatedDeltaNet::convolve(const at::Tensor& qkv_TC, const MixerInput& input) const {
  const bool fused = spec_.conv_activation == spec::Activation::kSilu;
  ops::CausalConvInputs in{qkv_TC, conv_C1W_.squeeze(1), conv_bias_C_, {}};
  DeltaState* state = state_of(input);
  if (state != nullptr) in.initial_state_NPC = state->gather_inputs(qkv_TC);
  const auto result = ops::causal_conv1d(
      in, input.sequences, fused ? ops::ConvActivation::kSilu : ops::ConvActivation::kNone);
  if (state != nullptr) state->scatter_inputs(result.final_state_NPC);
  return fused ? result.out_TC
               : ops::activation(result.out_TC, activation_kind(spec_.conv_activation));
}

at::Tensor GatedDeltaNet::mix(const Parts& parts, const at::Tensor& qkv_TC,
                              const MixerInput& input) const {
  const auto runs = ops::split_columns(qkv_TC, {widths_.keys, widths_.keys, widths_.values});
  const auto heads = [](const at::Tensor& x, int64_t count) { return x.unflatten(1, {count, -1}); };
  const ops::DeltaRuleInputs in{heads(runs[0], spec_.num_key_heads),
                                heads(runs[1], spec_.num_key_heads),
                                heads(runs[2], spec_.num_value_heads),
                                parts.decay,
                                parts.beta_TH,
                                {}};
  if (DeltaState* state = state_of(input)) {
    return ops::gated_delta_step(in, state->states_MHKV(qkv_TC), state->slots(), input.sequences,
                                 rule_);
  }
  return ops::gated_delta_rule(in, input.sequences, rule_).out_THV;
}

at::Tensor GatedDeltaNet::gated(const at::Tensor& mixed_THV, const at::Tensor& z_THV) const {
  const ops::NormFlavour flavour = flavour_of(spec_.norm);
  const auto fused = [&](ops::NormGate gate) {
    return ops::gated_rms_norm(mixed_THV, z_THV, norm_V_, {spec_.norm.eps, flavour, gate});
  };
  switch (spec_.gate) {
    case spec::DeltaGate::kSilu:
      return fused(ops::NormGate::kSilu);
    case spec::DeltaGate::kSigmoid:
      return fused(ops::NormGate::kSigmoid);
    default:
      return gate_by_activation(spec_.gate, z_THV,
                                ops::rms_norm(mixed_THV, norm_V_, spec_.norm.eps, flavour));
  }
}

void GatedDeltaNet::check(const Parts& parts, const at::Tensor& mixed_THV) const {
  const int64_t tokens = mixed_THV.size(0), heads = spec_.num_value_heads;
  checks_->tensor("q, k, v", parts.qkv_TC, {tokens, widths_.conv});
  checks_->tensor("z", parts.z_THV, {tokens, heads, spec_.value_head_dim});
  checks_->tensor("beta", parts.beta_TH, {tokens, heads});
  std::vector<int64_t> decays{tokens, heads};
  if (spec_.decay_rank) decays.push_back(spec_.key_head_dim);
  checks_->tensor("decay", parts.decay, decays);
  checks_->tensor("delta rule output", mixed_THV, {tokens, heads, spec_.value_head_dim});
}

MixerOutput GatedDeltaNet::forward(const MixerInput& input) const {
  const Parts parts = project(input.x_TD);
  const at::Tensor mixed = mix(parts, convolve(parts.qkv_TC, input), input);
  if (checks_ != nullptr) check(parts, mixed);
  return {out_.forward(gated(mixed, parts.z_THV).flatten(1))};
}

}  // namespace headway::nn
