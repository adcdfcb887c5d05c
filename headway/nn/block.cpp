// One decoder block: norms, mixer, MLP, residuals. Not for: what a mixer does.
#include "headway/nn/block.h"

namespace headway::nn {
namespace {

Mixer make_mixer(const spec::AttentionSpec& spec, const ParameterScope& scope,
                 std::shared_ptr<RotaryTable> rotary) {
  return Attention(spec, scope, std::move(rotary));
}

Mixer make_mixer(const spec::GatedDeltaNetSpec& spec, const ParameterScope& scope,
                 const std::shared_ptr<RotaryTable>&) {
  return GatedDeltaNet(spec, scope);
}

Mixer make_mixer(const spec::LatentAttentionSpec& spec, const ParameterScope& scope,
                 std::shared_ptr<RotaryTable> rotary) {
  return LatentAttention(spec, scope, std::move(rotary));
}

/// Whether something else than the mixer's output keeps its input for the backward pass.
bool keeps_input(const Mixer& mixer) {
  const auto* latent = std::get_if<LatentAttention>(&mixer);
  return latent != nullptr && latent->indexer().has_value();
}

Mlp make_mlp(const spec::DenseMlpSpec& spec, const ParameterScope& scope) {
  return DenseMlp(spec, scope);
}

Mlp make_mlp(const spec::MoeSpec& spec, const ParameterScope& scope) { return Moe(spec, scope); }

Mlp make_mlp(const spec::HybridMlpSpec& spec, const ParameterScope& scope) {
  return HybridMlp(spec, scope);
}

/// Gives back the output of `norm` once `user` has been computed from it.
void forget_normed(const std::optional<Norm>& norm, const at::Tensor& normed_TD,
                   const at::Tensor& h_TD, const at::Tensor& user) {
  if (!norm) return;
  discard_until_backward({normed_TD}, user, [norm, h = h_TD.detach()] {
    return std::vector<at::Tensor>{norm->forward(h)};
  });
}

/// The record that routers of this block fill.
RoutingRecord* routing_of(const BlockInput& block) {
  if (block.context == nullptr || block.context->routing == nullptr) return nullptr;
  block.context->routing->enter_layer(block.layer);
  return block.context->routing;
}

}  // namespace

Block::Block(const spec::LayerSpec& spec, const ParameterScope& scope,
             std::shared_ptr<RotaryTable> rotary)
    : pre_mixer_norm_(make_norm(spec.pre_mixer_norm, scope, "pre_mixer_norm")),
      post_mixer_norm_(make_norm(spec.post_mixer_norm, scope, "post_mixer_norm")),
      pre_mlp_norm_(make_norm(spec.pre_mlp_norm, scope, "pre_mlp_norm")),
      post_mlp_norm_(make_norm(spec.post_mlp_norm, scope, "post_mlp_norm")),
      mixer_(std::visit(
          [&](const auto& mixer) { return make_mixer(mixer, scope.child("mixer"), rotary); },
          spec.mixer)),
      mlp_(
          std::visit([&](const auto& mlp) { return make_mlp(mlp, scope.child("mlp")); }, spec.mlp)),
      per_layer_input_(spec.per_layer_input ? std::optional<PerLayerInput>(PerLayerInput(
                                                  *spec.per_layer_input, scope.child("per_layer")))
                                            : std::nullopt),
      layer_scalar_(scope.take_optional("layer_scalar")),
      mlp_parameters_(scope.child("mlp").tensors()),
      name_(spec.block) {}

void Block::set_recompute(const RecomputePlan& plan) {
  recompute_ = plan;
  std::visit(
      [&](auto& mixer) {
        if constexpr (requires { mixer.recompute_core(true); }) {
          mixer.recompute_core(plan.core_attention);
        }
      },
      mixer_);
}

void Block::set_checks(const Watch& watch) {
  watch_ = watch;
  std::visit([&](auto& mixer) { mixer.set_checks(watch.checks); }, mixer_);
}

void Block::look(const char* name, const at::Tensor& x_TD, int64_t tokens) const {
  if (watch_.checks != nullptr) watch_.checks->tensor(name, x_TD, {tokens, watch_.hidden_size});
}

at::Tensor Block::run_mlp(const MlpInput& input) const {
  const auto* dense = std::get_if<DenseMlp>(&mlp_);
  if (dense == nullptr || !recompute_.mlp) {
    return std::visit([&](const auto& mlp) { return mlp.forward(input); }, mlp_);
  }
  const TensorBody body = [dense](const std::vector<at::Tensor>& x) -> std::vector<at::Tensor> {
    return {dense->forward(x[0])};
  };
  return recompute(body, {input.x_TD}, mlp_parameters_)[0];
}

void Block::forward(ResidualStream& stream, const BlockInput& block) const {
  const int64_t tokens = block.sequences.num_tokens();
  if (watch_.checks != nullptr) watch_.checks->enter_layer(watch_.layer, name_);
  const at::Tensor mixer_in = stream.normed(pre_mixer_norm_);
  look("residual stream", stream.value(), tokens);
  look("mixer input", mixer_in, tokens);
  const MixerInput input{mixer_in,      block.sequences, block.state,
                         block.context, block.shared_kv, block.layer};
  const MixerOutput mixed =
      std::visit([&](const auto& mixer) { return mixer.forward(input); }, mixer_);
  if (recompute_.norms && !keeps_input(mixer_)) {
    forget_normed(pre_mixer_norm_, mixer_in, stream.value(), mixed.out_TD);
  }
  look("mixer output", mixed.out_TD, tokens);
  stream.add(apply_norm(post_mixer_norm_, mixed.out_TD));
  const at::Tensor mlp_in = stream.normed(pre_mlp_norm_);
  look("mlp input", mlp_in, tokens);
  const at::Tensor mlp_out = run_mlp({mlp_in, block.sequences, routing_of(block)});
  look("mlp output", mlp_out, tokens);
  if (recompute_.norms) forget_normed(pre_mlp_norm_, mlp_in, stream.value(), mlp_out);
  stream.add(apply_norm(post_mlp_norm_, mlp_out));
  if (per_layer_input_) {
    const at::Tensor added = per_layer_input_->forward(stream.value(), block.per_layer_TP);
    look("per-layer input", added, tokens);
    stream.add(added);
  }
  if (layer_scalar_.defined()) stream.scale(layer_scalar_);
}

}  // namespace headway::nn
