// Gated DeltaNet, a mixer with linear cost: project -> conv -> gates -> delta rule -> gated norm ->
// out. Not for: the rule itself (ops/delta_rule.h).
// Legend: T tokens, D hidden, G key heads, H value heads, K key dim, V value dim, C = 2·G·K + H·V.
#pragma once

#include <ATen/core/Tensor.h>

#include "headway/nn/linear.h"
#include "headway/nn/mixer.h"
#include "headway/nn/parameters.h"
#include "headway/nn/realtime_checks.h"
#include "headway/ops/causal_conv.h"
#include "headway/ops/delta_rule.h"
#include "headway/ops/gated_norm.h"
#include "headway/spec/gated_delta_net.h"
#include "headway/spec/model_spec.h"

namespace headway::nn {

/// q | k | v | z | b | a = in(x); q | k | v <- act(conv(q | k | v)); q, k of unit length;
/// β = σ(b) (times 2 with negative_eigenvalues); g = -e^A·softplus(a + dt);
/// out = W·(norm(delta_rule(q, k, v, g, β)) ∘ gate(z)), q scaled by K^-½.
class GatedDeltaNet {
 public:
  /// Takes in.weight, gate_up.weight, decay_up.weight, conv.{weight,bias}, dt_bias, A_log,
  /// norm.weight and out.weight of the scope.
  GatedDeltaNet(const spec::GatedDeltaNetSpec& spec, const ParameterScope& scope);

  /// x [T,D] -> [T,D]; sequences never see each other. With a DeltaState the tokens of every
  /// sequence continue its slot.
  MixerOutput forward(const MixerInput& input) const;

  /// Looks at projections, decays and the rule's output of every pass; null = at nothing.
  void set_checks(RealtimeChecks* checks) { checks_ = checks; }

 private:
  struct Parts {
    at::Tensor qkv_TC, z_THV, beta_TH;
    at::Tensor decay;  // [T,H] or [T,H,K]
  };
  Parts project(const at::Tensor& x_TD) const;
  at::Tensor decay(const at::Tensor& a) const;
  at::Tensor convolve(const at::Tensor& qkv_TC, const MixerInput& input) const;
  at::Tensor mix(const Parts& parts, const at::Tensor& qkv_TC, const MixerInput& input) const;
  at::Tensor gated(const at::Tensor& mixed_THV, const at::Tensor& z_THV) const;
  void check(const Parts& parts, const at::Tensor& mixed_THV) const;

  spec::GatedDeltaNetSpec spec_;
  spec::DeltaWidths widths_;
  Linear in_;
  std::optional<Linear> gate_up_;
  std::optional<Linear> decay_up_;
  at::Tensor conv_C1W_;
  at::Tensor conv_bias_C_;
  at::Tensor dt_bias_;  // [H], or [H·K] for a decay per channel
  at::Tensor log_rate_H_;
  at::Tensor norm_V_;
  Linear out_;
  ops::DeltaRuleOptions rule_;
  RealtimeChecks* checks_ = nullptr;
};

}  // namespace headway::nn
