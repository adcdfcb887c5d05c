// What every mixer takes and gives, so that blocks, trainer and generator never ask which one runs.
// Not for: any one mixer.
#pragma once

#include <cstdint>
#include <optional>

#include <ATen/core/Tensor.h>

#include "headway/nn/layer_state.h"
#include "headway/nn/routing_record.h"
#include "headway/nn/shared_kv.h"
#include "headway/ops/attention.h"
#include "headway/ops/sequences.h"

namespace headway::nn {

/// Where a training pass stands: keys everything random in it, so that a recomputed or resumed pass
/// draws the same.
struct RandomStream {
  uint64_t seed = 0;
  uint64_t step = 0;
  uint64_t micro_batch = 0;
};

/// Keys that the last layer with an indexer chose, for the layers that share them.
struct KeyChoice {
  bool made = false;
  at::Tensor chosen_TJ;  // undefined = all that a query sees
};

/// What one pass through the stack adds to the layers' own rules; tensors may be undefined.
struct ForwardContext {
  std::optional<RandomStream> random;  // none = evaluation: nothing is dropped
  at::Tensor attention_mask;           // ops::AttentionOptions::mask, in every layer
  at::Tensor attention_bias;           // ops::AttentionOptions::bias, in every layer
  at::Tensor image_spans_T;            // nn::image_spans; undefined = no images
  at::Tensor positions_3T;           // int64 time, height and width of every token (rope.sections)
  RoutingRecord* routing = nullptr;  // training: receives what routers and indexers leave behind
  KeyChoice* choice = nullptr;       // of this pass; the stack sets it
  /// Training: latent attention reads all keys, and indexers learn from all of them.
  bool index_warmup = false;
  /// Losses of indexers are sums over tokens instead of means.
  bool sum_index_loss = false;
};

struct MixerInput {
  const at::Tensor& x_TD;           // normed hidden states, packed
  const ops::Sequences& sequences;  // boundaries and positions of the T new tokens
  // Set during generation. KvCache: exactly one sequence, cu_k = cu_q. PagedKv: any number, cu_k
  // counts all keys of a sequence, the cached ones too.
  LayerState* state = nullptr;
  const ForwardContext* context = nullptr;
  SharedKv* shared_kv = nullptr;  // of the pass, where layers read each other's keys and values
  int64_t layer = 0;              // from 0, in the whole stack: keys random draws
};

struct MixerOutput {
  at::Tensor out_TD;
};

/// The draws of attention dropout in this layer and pass; off outside training.
ops::AttentionDropout dropout_for(const MixerInput& input, double probability);

}  // namespace headway::nn
