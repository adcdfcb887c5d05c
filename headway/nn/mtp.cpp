// See mtp.h. Not for: shifting ids and labels.
#include "headway/nn/mtp.h"

#include <ATen/Functions.h>

namespace headway::nn {

Mtp::Mtp(const spec::ModelSpec& spec, const ParameterScope& root, const RotaryOf& rotary)
    : spec_(spec.mtp.value()), first_block_(static_cast<int64_t>(spec.layers.size())) {
  const ParameterScope layers = root.child("mtp").child("layers");
  for (int64_t set = 0; set < spec_.weight_sets(); ++set) {
    const ParameterScope scope = layers.child(std::to_string(set));
    const spec::LayerSpec& layer = spec_.layers[static_cast<size_t>(set)];
    weights_.push_back(
        {make_norm(spec_.embedding_norm, scope, "embedding_norm"),
         make_norm(spec_.hidden_norm, scope, "hidden_norm"), Linear(scope.child("proj")),
         make_norm(spec_.final_norm, scope, "final_norm"), scope.take_optional("head.weight")});
    blocks_.emplace_back(layer, scope.child("block"), rotary(layer));
  }
}

const spec::LayerSpec& Mtp::layer(int64_t depth) const { return spec_.layers[set_of(depth)]; }

MtpOutput Mtp::forward(int64_t depth, const MtpInput& input) const {
  const Weights& held = weights(depth);
  const at::Tensor embedding_TD = ResidualStream(input.embedding_TD).normed(held.embedding_norm);
  const at::Tensor hidden_TD = ResidualStream(input.hidden_TD).normed(held.hidden_norm);
  ResidualStream stream(held.proj.forward(at::cat({embedding_TD, hidden_TD}, 1)));
  const size_t set = set_of(depth);
  blocks_[set].forward(stream, {input.sequences, input.state, input.context,
                                first_block_ + static_cast<int64_t>(set)});
  const at::Tensor normed_TD = stream.normed(held.final_norm);
  const bool residual = spec_.hidden == spec::MtpHidden::kResidual;
  return {normed_TD, residual ? stream.value() : normed_TD};
}

}  // namespace headway::nn
