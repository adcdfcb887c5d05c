// A frozen projection with trained low-rank pairs beside runs of its rows (LoRA, DoRA).
// Not for: which rows have one (spec/adapter.h).
// Legend: T tokens, I inputs, O outputs, N runs, R rank, P rows of all runs together.
#pragma once

#include <vector>

#include <ATen/core/Tensor.h>

namespace headway::ops {

/// Run i owns rows [i·R, (i+1)·R) of `a`; its rows of `b` follow those of the run before.
struct LowRank {
  struct Run {
    int64_t begin = 0;  // first row of the weight
    int64_t rows = 0;
  };
  std::vector<Run> runs;   // in order, none overlapping
  at::Tensor a_NI;         // [N·R, I]
  at::Tensor b_PR;         // [P, R]
  at::Tensor magnitude_P;  // [P] or undefined
  double scale = 1.0;      // s
};

/// y = x Wᵀ + bias, where in the rows of run i stands instead of W
///   W_i + s·B_i A_i                                            without magnitudes,
///   m_i ∘ (W_i + s·B_i A_i) / n_i, n_i = |W_i + s·B_i A_i|     with them (norms of rows),
/// computed as x Wᵀ + s·(x A_iᵀ) B_iᵀ: no weight is formed but for the norms.
/// Shapes: x [T,I], weight [O,I], bias [O] or undefined -> [T,O].
/// Dtype:  all of x's; norms in fp32 (fp64 for fp64).
/// Grad:   x, a, b, magnitude; n counts as constant, as the paper has it. One node; saves x, x Aᵀ
///         and, with magnitudes, the adapted rows before them.
/// Errors: ShapeError; UnsupportedError when weight or bias require a gradient.
/// Source: Hu et al. 2021; Liu et al. 2024, section 4.3 (constant norms).
/// Test:   tests/kernels/low_rank_linear_test.cpp
at::Tensor low_rank_linear(const at::Tensor& x_TI, const at::Tensor& weight_OI,
                           const at::Tensor& bias_O, const LowRank& pairs);

/// |W_i + s·B_i A_i| of the rows of all runs [P], in the weight's dtype.
at::Tensor low_rank_row_norms(const at::Tensor& weight_OI, const LowRank& pairs);

}  // namespace headway::ops
