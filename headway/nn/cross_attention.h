// Cross-attention of one layer: queries from the residual stream, keys and values from a context
// (an encoder's output) whose projection is made once and can be kept.
// Not for: self-attention (attention.h) or the encoder itself.
// Legend: T query tokens, S context tokens, D hidden, C context width, H heads, K head dim, V value
// head dim.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include <ATen/core/Tensor.h>

#include "headway/nn/linear.h"
#include "headway/nn/max_logit.h"
#include "headway/nn/parameters.h"
#include "headway/nn/rope.h"
#include "headway/ops/attention.h"
#include "headway/ops/sequences.h"
#include "headway/spec/cross_attention.h"

namespace headway::nn {

/// Keys (turned) and values of the contexts of N sequences, projected once: what an encoder-decoder
/// keeps of its encoder while it decodes. Holds the graph of its projection when gradients were on.
struct CrossContext {
  at::Tensor k_SHK;
  at::Tensor v_SHV;
  std::vector<int64_t> boundaries{0};  // context n is rows [boundaries[n], boundaries[n+1])

  int64_t num_sequences() const { return static_cast<int64_t>(boundaries.size()) - 1; }
  int64_t bytes() const;
  /// Contexts `order[0], order[1], …`, any of them any number of times: beams that were reordered,
  /// batches that shrank. Errors: ShapeError (an index out of range).
  CrossContext select(const std::vector<int64_t>& order) const;
};

class CrossAttention {
 public:
  /// Takes q, kv, out and sinks of the scope (spec::cross_attention_tensors). The tables turn
  /// queries and keys, each by positions of its own; null leaves that side unturned.
  CrossAttention(const spec::CrossAttentionSpec& spec, const ParameterScope& scope,
                 std::shared_ptr<RotaryTable> query_rotary,
                 std::shared_ptr<RotaryTable> key_rotary);
  /// Both tables from spec.rope, in the dtype of the scope's parameters.
  CrossAttention(const spec::CrossAttentionSpec& spec, const ParameterScope& scope);

  /// Projects the states attended to: [S,C]. `layout` gives their boundaries (cu_q) and positions.
  /// Padding is left out by leaving its rows out. Errors: ShapeError "key_value_states" when
  /// undefined or of another width, and of the layout.
  CrossContext context(const at::Tensor& states_SC, const ops::Sequences& layout) const;

  /// x [T,D] -> [T,D]: query rows [cu_q[n], cu_q[n+1]) see all of context n, or what `mask` (as in
  /// ops::AttentionOptions) and replace_rule leave visible. Of `queries` only cu_q and positions
  /// count. Decoding goes on with the same context and sequences of one query each. A query that
  /// sees nothing gives the output bias alone. Errors: ShapeError (as many contexts as query
  /// sequences; shapes).
  at::Tensor forward(const at::Tensor& x_TD, const ops::Sequences& queries,
                     const CrossContext& context, const at::Tensor& mask = {}) const;

  /// Which keys are visible, bottom-right aligned; everything unless replaced.
  void replace_rule(const ops::AttentionRule& rule) { options_.rule = rule; }
  MaxLogitTracker& max_logit() const { return *max_logit_; }

 private:
  spec::CrossAttentionSpec spec_;
  Linear q_;
  Linear kv_;
  Linear out_;
  at::Tensor sinks_H_;
  std::shared_ptr<RotaryTable> query_rotary_;
  std::shared_ptr<RotaryTable> key_rotary_;
  ops::AttentionOptions options_;
  std::shared_ptr<MaxLogitTracker> max_logit_ = std::make_shared<MaxLogitTracker>();
};

}  // namespace headway::nn
