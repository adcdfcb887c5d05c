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

Mlp make_mlp(const spec::MlpSpec& spec, const ParameterScope& scope) {
  return std::visit([&](const spec::DenseMlpSpec& dense) -> Mlp { return DenseMlp(dense, scope); },
                    spec);
}

at::Tensor apply(const std::optional<Norm>& norm, at::Tensor x) {
  return norm ? norm->forward(x) : x;
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
      mlp_(make_mlp(spec.mlp, scope.child("mlp"))),
      layer_scalar_(scope.take_optional("layer_scalar")) {}

void Block::forward(ResidualStream& stream, const BlockInput& block) const {
  const at::Tensor mixer_in = stream.normed(pre_mixer_norm_);
  const MixerInput input{mixer_in, block.sequences, block.state, block.context, block.layer};
  const MixerOutput mixed =
      std::visit([&](const auto& mixer) { return mixer.forward(input); }, mixer_);
  stream.add(apply(post_mixer_norm_, mixed.out_TD));
  const at::Tensor mlp_in = stream.normed(pre_mlp_norm_);
  stream.add(apply(post_mlp_norm_,
                   std::visit([&](const auto& mlp) { return mlp.forward(mlp_in); }, mlp_)));
  if (layer_scalar_.defined()) stream.scale(layer_scalar_);
}

}  // namespace headway::nn
