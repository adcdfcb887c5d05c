// What every mixer takes and gives, so that blocks, trainer and generator never ask which one runs.
// Not for: any one mixer.
#pragma once

#include <ATen/core/Tensor.h>

#include "headway/nn/layer_state.h"
#include "headway/ops/sequences.h"

namespace headway::nn {

struct MixerInput {
  const at::Tensor& x_TD;                // normed hidden states, packed
  const ops::Sequences& sequences;  // boundaries and positions of the T new tokens (cu_k = cu_q)
  LayerState* state = nullptr;           // set during generation: exactly one sequence
};

struct MixerOutput {
  at::Tensor out_TD;
};

}  // namespace headway::nn
