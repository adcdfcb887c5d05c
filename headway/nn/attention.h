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
#include "headway/nn/realtime_checks.h"
#include "headway/nn/rope.h"
#include "headway/ops/attention.h"
#include "headway/spec/model_spec.h"

namespace headway::nn {

/// Norms of the query and key heads before rotation, of each head or of all at once, and of the
/// value heads; absent ones return their input.
class QkNorm {
 public:
  QkNorm(const spec::AttentionSpec& spec, const ParameterScope& scope)
      : q_(make_norm(spec.q_norm, scope, "q_norm")),
        k_(make_norm(spec.k_norm, scope, "k_norm")),
        v_(make_norm(spec.v_norm, scope, "v_norm")),
        across_heads_(spec.qk_norm_across_heads) {}
  at::Tensor query(const at::Tensor& q_THK) const { return apply(q_, q_THK); }
  at::Tensor key(const at::Tensor& k_TGK) const { return apply(k_, k_TGK); }
  at::Tensor value(const at::Tensor& v_TGV) const { return apply_norm(v_, v_TGV); }
  /// No head is longer than its norm allows.
  void check(RealtimeChecks& checks, const at::Tensor& q_THK, const at::Tensor& k_TGK) const;

 private:
  at::Tensor apply(const std::optional<Norm>& norm, const at::Tensor& x_THK) const;

  std::optional<Norm> q_;
  std::optional<Norm> k_;
  std::optional<Norm> v_;
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

  /// x [T,D] -> [T,D]. With a KvCache the tokens of one sequence continue it, with a PagedKv those
  /// of any number of sequences continue theirs. Errors: ShapeError when a KvCache comes with more
  /// than one sequence; UnsupportedError for a state with keys of later tokens, and for logits
  /// observed through pages.
  MixerOutput forward(const MixerInput& input) const;

  /// Forgets the output of the softmax, and of the gate, until the backward pass. Same bits.
  void recompute_core(bool on) { recompute_core_ = on; }

  /// Looks at queries, keys, values, gates and the core output of every pass; null = at nothing.
  void set_checks(RealtimeChecks* checks) { checks_ = checks; }

  /// Weight gradients that wait (nn/linear.h), of one backward pass: both projections, or one.
  void backward_dw() const;
  void backward_qkv_proj() const { qkv_.backward_dw(); }
  void backward_output_proj() const { out_.backward_dw(); }

  const std::shared_ptr<RotaryTable>& rotary() const { return rotary_; }
  const spec::AttentionSpec& spec() const { return spec_; }
  /// Running maximum of this layer's logits; off until it is told to observe.
  MaxLogitTracker& max_logit() const { return *max_logit_; }

 private:
  /// Of the new tokens; keys and values are undefined where another layer's are read.
  struct Heads {
    at::Tensor q_THK;
    at::Tensor k_TGK;
    at::Tensor v_TGV;
    at::Tensor gate;
  };
  Heads project(const at::Tensor& x_TD) const;
  void norm(Heads& heads) const;
  void rotate(Heads& heads, const MixerInput& input) const;
  ops::AttentionOptions options_for(const MixerInput& input, const ops::Sequences& rows) const;
  void check_heads(const Heads& heads, int64_t tokens) const;
  /// What the queries attend to: the new keys and values with what the state holds, or another
  /// layer's.
  KeysValues keys_and_values(const Heads& heads, const MixerInput& input) const;
  KeysValues append(const Heads& heads, const ops::Sequences& fresh, KvCache& cache) const;
  at::Tensor core(const at::Tensor& q_THK, const KeysValues& kv, const MixerInput& input) const;
  at::Tensor core_of_pages(const at::Tensor& q_THK, const KeysValues& kv,
                           const ops::Sequences& sequences,
                           const ops::AttentionOptions& options) const;
  void forget_core(const Heads& heads, const KeysValues& kv, const MixerInput& input,
                   std::vector<at::Tensor> values, const at::Tensor& out_TD) const;

  spec::AttentionSpec spec_;
  Linear qkv_;
  Linear out_;
  QkNorm qk_norm_;
  OutputGate gate_;
  at::Tensor sinks_H_;
  std::shared_ptr<RotaryTable> rotary_;
  ops::AttentionOptions options_;
  std::shared_ptr<MaxLogitTracker> max_logit_ = std::make_shared<MaxLogitTracker>();
  bool recompute_core_ = false;
  RealtimeChecks* checks_ = nullptr;
};

}  // namespace headway::nn
