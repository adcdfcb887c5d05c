// Multi-head latent attention of one layer, over all keys or over those an indexer chooses:
// project -> norm -> rope -> (choose) -> core -> out.
// Not for: the softmax itself (ops/attention.h, ops/sparse_attention.h) or scores of the indexer
// (indexer.h).
// Legend: T tokens, S key tokens, D hidden, H heads, C channels of the latent, N channels of a head
// without positions, R rotated channels, K = C + R, V value dim, J keys a query.
#pragma once

#include <memory>
#include <optional>
#include <utility>

#include <ATen/core/Tensor.h>

#include "headway/nn/indexer.h"
#include "headway/nn/linear.h"
#include "headway/nn/max_logit.h"
#include "headway/nn/mixer.h"
#include "headway/nn/norm.h"
#include "headway/nn/parameters.h"
#include "headway/nn/realtime_checks.h"
#include "headway/nn/rope.h"
#include "headway/ops/attention.h"
#include "headway/spec/latent_attention.h"
#include "headway/spec/model_spec.h"

namespace headway::nn {

/// In two forms that are the same function:
///   expanded: keys [W_uk,h c | k_r] and values W_uv,h c of every head; N + R and V numbers a pair
///   absorbed: queries [W_uk,hᵀ q_n | q_r] against the rows [c | k_r] that all heads share, values
///             their first C channels, W_uv,h behind the softmax; K and C numbers a pair
/// Training and first prompts expand; continued sequences and chosen keys absorb.
class LatentAttention {
 public:
  /// Takes down, q_norm, q_up, kv_norm, kv_up, out and indexer.* of the scope, as far as the spec
  /// has them. `rotary` (of R channels) is null without rope.
  LatentAttention(const spec::LatentAttentionSpec& spec, const ParameterScope& scope,
                  std::shared_ptr<RotaryTable> rotary);

  /// x [T,D] -> [T,D]. A state keeps the rows [c | k_r] of every token as keys of one head and the
  /// indexer's keys in the place of values. Errors: ShapeError when a KvCache comes with more than
  /// one sequence; UnsupportedError for masks or biases with chosen keys or a state, and for logits
  /// observed there; InternalError for shared_choice without a choice.
  MixerOutput forward(const MixerInput& input) const;

  /// Forgets the output of the softmax until the backward pass. Same bits.
  void recompute_core(bool on) { recompute_core_ = on; }
  /// Looks at queries, latents and the core output of every pass; null = at nothing.
  void set_checks(RealtimeChecks* checks) { checks_ = checks; }

  /// The rows that a state keeps of the tokens of `input`: [c | k_r] [T,K].
  at::Tensor cached_rows(const MixerInput& input) const;
  /// Keys and values of all heads for rows [c | k_r]: [S,H,N+R] and [S,H,V].
  std::pair<at::Tensor, at::Tensor> expand(const at::Tensor& rows_SK) const;

  const spec::LatentAttentionSpec& spec() const { return spec_; }
  const std::optional<Indexer>& indexer() const { return indexer_; }
  /// Running maximum of this layer's logits; off until it is told to observe.
  MaxLogitTracker& max_logit() const { return *max_logit_; }

 private:
  struct Parts {
    at::Tensor q_THN, q_THR;       // without positions, rotated
    at::Tensor latent_TC, key_TR;  // normed latent, rotated key
    std::optional<ops::IndexInputs> index;
  };
  /// Keys to attend to, and where they lie.
  struct Keys {
    at::Tensor rows_SK;
    at::Tensor chosen_TJ;  // undefined = all that a query sees
    ops::Sequences sequences;
  };
  Parts project(const MixerInput& input) const;
  bool needs_index(const MixerInput& input) const;
  at::Tensor choose(const std::optional<ops::IndexInputs>& index, const ops::Sequences& sequences,
                    const MixerInput& input) const;
  void learn(const Parts& parts, const at::Tensor& chosen_TJ, const MixerInput& input) const;
  ops::AttentionOptions options_for(const MixerInput& input) const;

  at::Tensor rows_of(const Parts& parts) const;
  at::Tensor absorbed_queries(const Parts& parts) const;
  at::Tensor values_of(const at::Tensor& core_THC) const;
  at::Tensor attend_expanded(const Parts& parts, const MixerInput& input) const;
  at::Tensor attend_chosen(const Parts& parts, const at::Tensor& chosen_TJ,
                           const MixerInput& input) const;
  at::Tensor attend_absorbed(const Parts& parts, const Keys& keys) const;
  at::Tensor continue_one(const Parts& parts, const MixerInput& input, KvCache& cache) const;
  at::Tensor continue_many(const Parts& parts, const MixerInput& input, PagedKv& pages) const;

  spec::LatentAttentionSpec spec_;
  spec::LatentWidths widths_;
  Linear down_;
  std::optional<Norm> q_norm_;
  std::optional<Linear> q_up_;
  std::optional<Norm> kv_norm_;
  Linear kv_up_;
  Linear out_;
  std::optional<Indexer> indexer_;
  std::shared_ptr<RotaryTable> rotary_;
  ops::AttentionOptions options_;
  std::shared_ptr<MaxLogitTracker> max_logit_ = std::make_shared<MaxLogitTracker>();
  bool recompute_core_ = false;
  RealtimeChecks* checks_ = nullptr;
};

}  // namespace headway::nn
