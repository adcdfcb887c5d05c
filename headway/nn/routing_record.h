// What the routers and indexers of a step leave behind beside their output: losses to train with,
// loads to balance and to report. A forward pass that is given a record fills it; without one they
// only choose. Not for: what to do with it (engine).
// Legend: E experts, K experts a token chooses.
#pragma once

#include <cstdint>
#include <map>

#include <ATen/core/Tensor.h>

namespace headway::nn {

/// One layer's router over the micro-batches of a step.
struct LayerRouting {
  at::Tensor load_E;     // float64: tokens each expert took
  at::Tensor balance_E;  // float64: tokens that the losses count, which may be another choice
  int64_t micro_batches = 0;
  int64_t tokens = 0;
  int64_t choices = 0;  // tokens · K
  int64_t dropped = 0;  // choices that a full expert refused
  double entropy = 0;   // Σ over micro-batches of tokens · entropy, in units of ln E
};

class RoutingRecord {
 public:
  /// Layer of the modules that run next.
  void enter_layer(int64_t layer) { layer_ = layer; }
  LayerRouting& current() { return layers_[layer_]; }

  /// Adds a scalar to the loss of this forward pass.
  void add_loss(const at::Tensor& loss);
  /// The same for an indexer's loss, whose value is kept apart as well.
  void add_index_loss(const at::Tensor& loss);
  /// Sum of the losses added since the last call; undefined when there were none.
  at::Tensor take_loss();
  /// Sum of the indexers' losses since the last call.
  double take_index_loss();

  /// By layer; empty for a model without routers.
  const std::map<int64_t, LayerRouting>& layers() const { return layers_; }

 private:
  int64_t layer_ = 0;
  at::Tensor loss_;
  double index_loss_ = 0.0;
  std::map<int64_t, LayerRouting> layers_;
};

}  // namespace headway::nn
