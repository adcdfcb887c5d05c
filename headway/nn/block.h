// One decoder block: mixer and MLP around the residual stream, with any set of pre and post norms.
// Not for: embedding or head.
#pragma once

#include <memory>
#include <optional>
#include <variant>

#include "headway/nn/attention.h"
#include "headway/nn/gated_delta_net.h"
#include "headway/nn/mixer.h"
#include "headway/nn/mlp.h"
#include "headway/nn/norm.h"
#include "headway/spec/model_spec.h"

namespace headway::nn {

using Mixer = std::variant<Attention, GatedDeltaNet>;
using Mlp = std::variant<DenseMlp>;

/// What a block needs besides the stream.
struct BlockInput {
  const ops::Sequences& sequences;
  LayerState* state = nullptr;
  const ForwardContext* context = nullptr;
  int64_t layer = 0;
};

class Block {
 public:
  /// `rotary` gives the table of a mixer that rotates.
  Block(const spec::LayerSpec& spec, const ParameterScope& scope,
        std::shared_ptr<RotaryTable> rotary);

  /// h += post(mixer(pre(h))); h += post(mlp(pre(h))); h *= layer_scalar. The last addition stays
  /// pending in the stream.
  void forward(ResidualStream& stream, const BlockInput& input) const;

  const Mixer& mixer() const { return mixer_; }

 private:
  std::optional<Norm> pre_mixer_norm_;
  std::optional<Norm> post_mixer_norm_;
  std::optional<Norm> pre_mlp_norm_;
  std::optional<Norm> post_mlp_norm_;
  Mixer mixer_;
  Mlp mlp_;
  at::Tensor layer_scalar_;
};

}  // namespace headway::nn
