// Not for: anything but delta_rule_heads.h.
#include "headway/ops/reference/delta_rule_heads.h"

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>

#include "headway/ops/internal/arguments.h"

namespace headway::ops::reference {

Normalised l2_normalised(const at::Tensor& x, const DeltaRuleOptions& options) {
  if (!options.l2_norm) return {x, {}};
  const at::Tensor rho = (x.square().sum(-1, /*keepdim=*/true) + options.l2_eps).rsqrt();
  return {x * rho, rho};
}

at::Tensor l2_backward(const Normalised& norm, const at::Tensor& d_y) {
  if (!norm.rho.defined()) return d_y;
  return norm.rho * (d_y - norm.y * (norm.y * d_y).sum(-1, /*keepdim=*/true));
}

DeltaHeads::DeltaHeads(const internal::DeltaRuleArguments& arguments) {
  const DeltaRuleInputs& in = arguments.inputs;
  const at::ScalarType type = internal::accumulate_type(in.q_TGK);
  const int64_t repeats = arguments.heads() / arguments.key_heads();
  const auto head_first = [](const at::Tensor& x) { return x.transpose(0, 1).contiguous(); };
  q_norm = l2_normalised(in.q_TGK.to(type), arguments.options);
  k_norm = l2_normalised(in.k_TGK.to(type), arguments.options);
  q = head_first((q_norm.y * arguments.options.scale).repeat_interleave(repeats, 1));
  k = head_first(k_norm.y.repeat_interleave(repeats, 1));
  v = head_first(in.v_THV.to(type));
  const at::Tensor g = in.log_decay.to(type);
  decay = head_first(arguments.channel_decay() ? g : g.unsqueeze(-1));
  beta = head_first(in.beta_TH.to(type));
}

DeltaHeads DeltaHeads::zeros() const {
  DeltaHeads d;
  d.q = at::zeros_like(q);
  d.k = at::zeros_like(k);
  d.v = at::zeros_like(v);
  d.decay = at::zeros_like(decay);
  d.beta = at::zeros_like(beta);
  return d;
}

internal::DeltaRuleGradients DeltaHeads::gradients(const internal::DeltaRuleArguments& arguments,
                                                   const DeltaHeads& d) const {
  const DeltaRuleInputs& in = arguments.inputs;
  const int64_t groups = arguments.key_heads();
  // [H,T,K] -> [T,G,K], summed over the value heads of a key head.
  const auto of_keys = [&](const at::Tensor& x) {
    return x.unflatten(0, {groups, -1}).sum(1).transpose(0, 1);
  };
  const auto token_first = [](const at::Tensor& x, const at::Tensor& like) {
    return x.transpose(0, 1).reshape(like.sizes()).to(like.scalar_type()).contiguous();
  };
  internal::DeltaRuleGradients gradients;
  gradients.q = l2_backward(q_norm, of_keys(d.q) * arguments.options.scale)
                    .to(in.q_TGK.scalar_type())
                    .contiguous();
  gradients.k = l2_backward(k_norm, of_keys(d.k)).to(in.k_TGK.scalar_type()).contiguous();
  gradients.v = token_first(d.v, in.v_THV);
  gradients.log_decay = token_first(d.decay, in.log_decay);
  gradients.beta = token_first(d.beta, in.beta_TH);
  return gradients;
}

at::Tensor first_states(const internal::DeltaRuleArguments& arguments) {
  const at::Tensor& initial = arguments.inputs.initial_state_NHKV;
  if (initial.defined()) return initial.clone();
  const at::Tensor& q = arguments.inputs.q_TGK;
  return at::zeros(
      {arguments.num_sequences(), arguments.heads(), arguments.key_dim(), arguments.value_dim()},
      q.options().dtype(internal::accumulate_type(q)));
}

}  // namespace headway::ops::reference
