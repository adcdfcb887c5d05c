// The MLPs of a mixture of experts, each on the tokens that chose it, and their weighted sum.
// Not for: the choice (ops/router.h) or shared experts (an MLP like any other).
// Legend: T tokens, K experts a token chooses, E experts, I inputs, F inner width, O outputs,
// R = 2F rows gate | up, or F without gate.
#pragma once

#include <ATen/core/Tensor.h>

#include "headway/ops/activation.h"

namespace headway::ops {

/// Weights of all experts, one below the other.
struct ExpertWeights {
  at::Tensor up;         // [E·R,I], rows of expert e from e·R on: gate | up
  at::Tensor up_bias;    // [E·R] or undefined
  at::Tensor down;       // [E·O,F]
  at::Tensor down_bias;  // [E·O] or undefined
};

struct ExpertOptions {
  int64_t num_experts = 1;
  ActivationKind activation = ActivationKind::kSilu;
  bool gated = true;
  double limit = 0.0;  // this and the following as in GatedOptions
  bool limit_input = false;
  double offset = 0.0;

  GatedOptions gated_options() const { return {limit, limit_input, offset}; }
};

/// y_t = Σ_j w_tj·(down_e h_e(x_t) + c_e), e = experts_tj, over choices >= 0; with
/// h_e(x) = act(gate_e x) ∘ (up_e x + c), or act(up_e x), biases added to the projections.
/// Tokens are put in order of their expert, so that each expert is one product over contiguous
/// rows; an expert without tokens is legal, costs nothing and gets zeros as gradient.
/// Shapes: x [T,I], weights [T,K], experts int64 [T,K], no expert twice in a row -> [T,O].
/// Dtype:  x and the weights of experts alike; w float32 (float64 for float64). The activation is
///         multiplied by w in fp32, the K results of a token are summed in fp32, once rounded.
/// Grad:   x, w and all weights. One node; saves its inputs and the result of the up projection.
///         Deterministic for any number of threads.
/// Errors: ShapeError; UnsupportedError if a forced kernel ("experts") cannot run.
/// Source: Shazeer et al. 2017; Gale et al. 2022 (grouped products without padding).
/// Test:   tests/kernels/experts_test.cpp
at::Tensor experts(const at::Tensor& x_TI, const at::Tensor& weights_TK,
                   const at::Tensor& experts_TK, const ExpertWeights& weights,
                   const ExpertOptions& options);

}  // namespace headway::ops
