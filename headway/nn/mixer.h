// What every mixer takes and gives, so that blocks, trainer and generator never ask which one runs.
// Not for: any one mixer.
#pragma once

#include <cstdint>
#include <optional>

#include <ATen/core/Tensor.h>

#include "headway/nn/layer_state.h"
#include "headway/nn/routing_record.h"
#include "headway/nn/shared_kv.h"
#include "headway/ops/sequences.h"

namespace headway::nn {

/// Where a training pass stands: keys everything random in it, so that a recomputed or resumed pass
/// draws the same.
struct RandomStream {
  uint64_t seed = 0;
  uint64_t step = 0;
  uint64_t micro_batch = 0;
};

/// What one pass through the stack adds to the layers' own rules; tensors may be undefined.
struct ForwardContext {
  std::optional<RandomStream> random;  // none = evaluation: nothing is dropped
  at::Tensor attention_mask;           // ops::AttentionOptions::mask, in every layer
  at::Tensor attention_bias;           // ops::AttentionOptions::bias, in every layer
  at::Tensor image_spans_T;          // nn::image_spans; undefined = no images
  at::Tensor positions_3T;           // int64 time, height and width of every token (rope.sections)
  RoutingRecord* routing = nullptr;  // training: receives what routers leave behind
};

struct MixerInput {
  const at::Tensor& x_TD;           // normed hidden states, packed
  const ops::Sequences& sequences;  // boundaries and positions of the T new tokens
  // Set during generation. KvCache: exactly one sequence, cu_k = cu_q. PagedKv: any number, cu_k
  // counts all keys of a sequence, the cached ones too.
  LayerState* state = nullptr;
  const ForwardContext* context = nullptr;
  SharedKv* shared_kv = nullptr;  // of the pass, where layers read each other's keys and values
  int64_t layer = 0;  // from 0, in the whole stack: keys random draws
};

struct MixerOutput {
  at::Tensor out_TD;
};

}  // namespace headway::nn
