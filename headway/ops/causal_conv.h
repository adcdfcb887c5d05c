// Causal depthwise convolution along packed sequences, with the activation behind it and the inputs
// it remembers between calls. Not for: convolutions over channels or images.
// Legend: T tokens, N sequences, C channels, W taps, P = W-1 remembered inputs.
#pragma once

#include <ATen/core/Tensor.h>

#include "headway/ops/sequences.h"

namespace headway::ops {

enum class ConvActivation { kNone, kSilu };

struct CausalConvInputs {
  at::Tensor x_TC;
  at::Tensor weight_CW;  // weight[c,W-1] multiplies the current token
  at::Tensor bias_C;     // or undefined
  at::Tensor
      initial_state_NPC;  // the P inputs before each sequence, oldest first; undefined: zeros
};

struct CausalConvResult {
  at::Tensor out_TC;
  at::Tensor final_state_NPC;  // the last P inputs of each sequence, its initial state included
};

/// out[t,c] = act(bias[c] + Σ_j weight[c,j]·x[t-W+1+j,c]); what lies before a sequence is its
/// initial state, never the sequence before it.
/// Shapes: x [T,C] (last dim contiguous, rows may be strided), weight [C,W], bias [C], state
/// [N,P,C]
///         -> out [T,C] contiguous, final_state [N,P,C]. Only cu_q of `sequences` is used.
/// Dtype:  all alike, float32, float64, bfloat16 or float16; sums in fp32 (fp64), one rounding.
///         Grad: x, weight, bias, initial state; saves the inputs. Deterministic (fixed row blocks
///         combined in order).
/// Errors: ShapeError; UnsupportedError if a forced kernel ("causal_conv1d") cannot run.
/// Source: Dao & Gu 2023, Mamba, section 3.4 (the short convolution). Test:
///         tests/kernels/causal_conv_test.cpp
CausalConvResult causal_conv1d(const CausalConvInputs& inputs, const Sequences& sequences,
                               ConvActivation activation);

}  // namespace headway::ops
