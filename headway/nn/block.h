// One decoder block: mixer and MLP around the residual stream, with any set of pre and post norms.
// Not for: embedding or head.
#pragma once

#include <memory>
#include <optional>
#include <variant>

#include "headway/nn/attention.h"
#include "headway/nn/gated_delta_net.h"
#include "headway/nn/hybrid_mlp.h"
#include "headway/nn/latent_attention.h"
#include "headway/nn/mixer.h"
#include "headway/nn/mlp.h"
#include "headway/nn/moe.h"
#include "headway/nn/norm.h"
#include "headway/nn/per_layer_embedding.h"
#include "headway/nn/realtime_checks.h"
#include "headway/nn/recompute.h"
#include "headway/spec/model_spec.h"

namespace headway::nn {

using Mixer = std::variant<Attention, GatedDeltaNet, LatentAttention>;
using Mlp = std::variant<DenseMlp, Moe, HybridMlp>;

/// What a block needs besides the stream.
struct BlockInput {
  const ops::Sequences& sequences;
  LayerState* state = nullptr;
  const ForwardContext* context = nullptr;
  int64_t layer = 0;
  SharedKv* shared_kv = nullptr;
  at::Tensor per_layer_TP{};  // the layer's part of the per-layer embedding, if it takes part
};

class Block {
 public:
  /// `rotary` gives the table of a mixer that rotates.
  Block(const spec::LayerSpec& spec, const ParameterScope& scope,
        std::shared_ptr<RotaryTable> rotary);

  /// h += post(mixer(pre(h))); h += post(mlp(pre(h))); h += per-layer input; h *= layer_scalar. The
  /// last addition stays pending in the stream.
  void forward(ResidualStream& stream, const BlockInput& input) const;

  /// Parts of this layer that are forgotten until the backward pass; see nn/recompute.h.
  void set_recompute(const RecomputePlan& plan);

  /// What looks at every pass through this layer, and what it is called there.
  struct Watch {
    RealtimeChecks* checks = nullptr;  // null = nobody looks
    int64_t layer = 0;
    int64_t hidden_size = 0;
  };
  void set_checks(const Watch& watch);

  const Mixer& mixer() const { return mixer_; }
  const Mlp& mlp() const { return mlp_; }

 private:
  at::Tensor run_mlp(const MlpInput& input) const;
  void look(const char* name, const at::Tensor& x_TD, int64_t tokens) const;

  std::optional<Norm> pre_mixer_norm_;
  std::optional<Norm> post_mixer_norm_;
  std::optional<Norm> pre_mlp_norm_;
  std::optional<Norm> post_mlp_norm_;
  Mixer mixer_;
  Mlp mlp_;
  std::optional<PerLayerInput> per_layer_input_;
  at::Tensor layer_scalar_;
  std::vector<at::Tensor> mlp_parameters_;
  RecomputePlan recompute_;
  Watch watch_;
  std::string name_;
};

}  // namespace headway::nn
