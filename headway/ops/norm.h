// RMSNorm and LayerNorm over the last dimension, alone and fused with the residual add before them.
// Not for: group or batch norms.
// Legend: C channels, T tokens, D hidden; … leading dimensions, called rows.
#pragma once

#include <utility>

#include <ATen/core/Tensor.h>

namespace headway::ops {

/// What x̂ is multiplied with and where a 16-bit result is rounded.
enum class NormFlavour {
  kPlain,         // y = cast(x̂)·w, rounded again
  kZeroCentered,  // y = cast(x̂·(1+w))
  kFp32Weight,    // y = cast(x̂·w), product in fp32
  kNoWeight,      // y = cast(x̂)
};

/// y = flavour(x·rsqrt(mean(x²)+eps), w) over the last dim C.
/// Shapes: x […,C] (last dim contiguous, rows may be strided), w [C] or undefined (kNoWeight)
///         -> contiguous […,C].
/// Dtype:  statistics in fp32 (fp64 for fp64); result in x's dtype; w in x's dtype or fp32.
///         Grad: x, w; saves x, w and 1/rms. Deterministic (fixed row blocks combined in order).
///         dx = r(g∘w' - x̂·mean(g∘w'∘x̂)), dw = Σ_rows g∘x̂.
/// Errors: ShapeError; UnsupportedError if a forced kernel ("norm") cannot run.
/// Source: Zhang & Sennrich 2019, eq. 4. Test: tests/kernels/norm_test.cpp
at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& weight, double eps, NormFlavour flavour);

/// y = (x - mean)·rsqrt(var+eps)·w + b over the last dim; w and b may be undefined (1 and 0).
/// Shapes, dtypes, errors: as rms_norm, one rounding. Grad: x, w, b; saves x, w, mean and 1/σ.
/// Source: Ba, Kiros & Hinton 2016. Test: tests/kernels/norm_test.cpp
at::Tensor layer_norm(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                      double eps);

/// sum = residual + delta; y = rms_norm(sum, …). One pass over memory, one autograd node.
/// Shapes: residual and delta alike, […,C] -> {sum, y} contiguous, in their dtype.
/// Grad:   d_delta = d_residual = g_sum + dx(g_y), and w; saves sum, w and 1/rms. Deterministic.
/// Errors, source, test: as rms_norm.
std::pair<at::Tensor, at::Tensor> add_rms_norm(const at::Tensor& residual, const at::Tensor& delta,
                                               const at::Tensor& weight, double eps,
                                               NormFlavour flavour);

}  // namespace headway::ops
