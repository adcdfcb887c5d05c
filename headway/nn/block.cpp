// One decoder block: norms, mixer, MLP, residuals. Not for: what a mixer does.
#include "headway/nn/block.h"

namespace headway::nn {
namespace {

Mixer make_mixer(const spec::MixerSpec& spec, const ParameterScope& scope,
                 std::shared_ptr<RotaryTable> rotary) {
  return std::visit(
      [&](const spec::AttentionSpec& attention) -> Mixer {
        return Attention(attention, scope, rotary);
      },
      spec);
}

Mlp make_mlp(const spec::DenseMlpSpec& spec, const ParameterScope& scope) {
  return DenseMlp(spec, scope);
}

Mlp make_mlp(const spec::MoeSpec& spec, const ParameterScope& scope) { return Moe(spec, scope); }

at::Tensor apply(const std::optional<Norm>& norm, at::Tensor x) {
  return norm ? norm->forward(x) : x;
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
      mixer_(make_mixer(spec.mixer, scope.child("mixer"), std::move(rotary))),
      mlp_(
          std::visit([&](const auto& mlp) { return make_mlp(mlp, scope.child("mlp")); }, spec.mlp)),
      layer_scalar_(scope.take_optional("layer_scalar")) {}

void Block::forward(ResidualStream& stream, const BlockInput& block) const {
  const at::Tensor mixer_in = stream.normed(pre_mixer_norm_);
  const MixerInput input{mixer_in, block.sequences, block.state, block.context, block.layer};
  const MixerOutput mixed =
      std::visit([&](const auto& mixer) { return mixer.forward(input); }, mixer_);
  stream.add(apply(post_mixer_norm_, mixed.out_TD));
  const at::Tensor mlp_in = stream.normed(pre_mlp_norm_);
  const MlpInput mlp_input{mlp_in, block.sequences, routing_of(block)};
  stream.add(apply(post_mlp_norm_,
                   std::visit([&](const auto& mlp) { return mlp.forward(mlp_input); }, mlp_)));
  if (layer_scalar_.defined()) stream.scale(layer_scalar_);
}

}  // namespace headway::nn
