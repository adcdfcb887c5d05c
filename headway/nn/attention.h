// Self-attention of one layer: project -> norm -> rope -> core -> gate -> out.
// Not for: the softmax itself (ops/attention.h) or the residual around it (block.h).
// Legend: T tokens, D hidden, H query heads, G kv heads, K head dim, V value dim.
#pragma once

#include <memory>
#include <optional>

#include <ATen/core/Tensor.h>

#include "headway/nn/linear.h"
#include "headway/nn/max_logit.h"
#include "headway/nn/mixer.h"
#include "headway/nn/norm.h"
#include "headway/nn/parameters.h"
#include "headway/nn/rope.h"
#include "headway/ops/attention.h"
#include "headway/spec/model_spec.h"

namespace headway::nn {

/// Norms of the query and key heads before rotation, of each head or of all at once; absent ones
/// return their input.
class QkNorm {
 public:
  QkNorm(const spec::AttentionSpec& spec, const ParameterScope& scope)
      : q_(make_norm(spec.q_norm, scope, "q_norm")),
        k_(make_norm(spec.k_norm, scope, "k_norm")),
        across_heads_(spec.qk_norm_across_heads) {}
  at::Tensor query(const at::Tensor& q_THK) const { return apply(q_, q_THK); }
  at::Tensor key(const at::Tensor& k_TGK) const { return apply(k_, k_TGK); }

 private:
  at::Tensor apply(const std::optional<Norm>& norm, const at::Tensor& x_THK) const;

  std::optional<Norm> q_;
  std::optional<Norm> k_;
  bool across_heads_;
};

/// Sigmoid gate on the core output, head-wise [T,H] or element-wise [T,H·V]; `none` returns its
/// input. Owns nothing: its logits are a row segment of the fused projection, passed in and never
/// kept.
class OutputGate {
 public:
  explicit OutputGate(const spec::AttentionSpec& spec)
      : spec_(spec.gate), v_head_dim_(spec.v_head_dim) {}
  at::Tensor apply(const at::Tensor& core_THV, const at::Tensor& logits) const;

 private:
  spec::GateSpec spec_;
  int64_t v_head_dim_;
};

class Attention {
 public:
  /// Takes qkv.{weight,bias}, out.{weight,bias}, q_norm, k_norm and sinks of the scope. `rotary` is
  /// null without rope.
  Attention(const spec::AttentionSpec& spec, const ParameterScope& scope,
            std::shared_ptr<RotaryTable> rotary);

  /// x [T,D] -> [T,D]. With a state: the tokens of one sequence continue it, keys are cached
  /// rotated. Errors: ShapeError when a state comes with more than one sequence.
  MixerOutput forward(const MixerInput& input) const;

  const std::shared_ptr<RotaryTable>& rotary() const { return rotary_; }
  const spec::AttentionSpec& spec() const { return spec_; }
  /// Running maximum of this layer's logits; off until it is told to observe.
  MaxLogitTracker& max_logit() const { return *max_logit_; }

 private:
  struct Heads {
    at::Tensor q_THK;
    at::Tensor k_TGK;
    at::Tensor v_TGV;
    at::Tensor gate;
  };
  Heads project(const at::Tensor& x_TD) const;
  ops::AttentionOptions options_for(const MixerInput& input) const;
  at::Tensor core(const Heads& heads, const MixerInput& input) const;

  spec::AttentionSpec spec_;
  Linear qkv_;
  Linear out_;
  QkNorm qk_norm_;
  OutputGate gate_;
  at::Tensor sinks_H_;
  std::shared_ptr<RotaryTable> rotary_;
  ops::AttentionOptions options_;
  std::shared_ptr<MaxLogitTracker> max_logit_ = std::make_shared<MaxLogitTracker>();
};

}  // namespace headway::nn
