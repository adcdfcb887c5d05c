// The lightning indexer of sparse attention: which keys a query attends to, and the loss that
// teaches it.
// Not for: attention itself (latent_attention.h) or the choice among scores (ops/select_keys.h).
// Legend: T tokens, S key tokens, D hidden, N index heads, I channels of an index head, J keys a
// query.
#pragma once

#include <optional>

#include <ATen/core/Tensor.h>

#include "headway/nn/linear.h"
#include "headway/nn/mixer.h"
#include "headway/nn/norm.h"
#include "headway/nn/parameters.h"
#include "headway/nn/rope.h"
#include "headway/ops/index_loss.h"
#include "headway/ops/select_keys.h"
#include "headway/spec/model_spec.h"

namespace headway::nn {

/// q = W_q z, k = LayerNorm(W_k x), both rotated on their first channels by the layer's own table,
/// w = W_w x · (N·I)^-½; token t's score of token u is Σ_n w[t,n]·relu(q[t,n]·k[u]).
/// z is the queries' latent where there is one, else x. Neither x nor z gets a gradient from here.
class Indexer {
 public:
  /// Takes q.weight, k.weight, k_norm.{weight,bias} and weights.weight of the scope.
  Indexer(const spec::IndexerSpec& spec, const ParameterScope& scope);

  /// What it compares for the T new tokens. `turns`: rows of the layer's rotary table; null = no
  /// rotation. Records gradients of its own parameters alone.
  ops::IndexInputs project(const at::Tensor& x_TD, const at::Tensor& latent_TQ,
                           const RotaryTable::Rows* turns) const;

  ops::IndexOptions options() const { return {spec_.top_k, spec_.relu}; }
  const spec::IndexerSpec& spec() const { return spec_; }

  /// Whether a pass that records gradients adds a loss: one with a record, a weight above 0.
  bool learns(const MixerInput& input) const;
  /// Adds the weighted loss of the pass to its record: the mean of KL_t over its tokens, or the sum
  /// where the context says so. `chosen` [T,J] or undefined, when every query kept all keys.
  void learn(const ops::IndexInputs& index, const ops::IndexTarget& target,
             const at::Tensor& chosen_TJ, const MixerInput& input) const;

 private:
  at::Tensor prepared(at::Tensor x_THI, const RotaryTable::Rows* turns) const;

  spec::IndexerSpec spec_;
  Linear q_;
  Linear k_;
  Norm k_norm_;
  Linear weights_;
};

}  // namespace headway::nn
