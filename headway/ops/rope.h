// Application of rotary position embedding from a table of cosines and sines.
// Not for: frequencies (spec/rope_frequencies.h) or tables (nn/rope.h).
// Legend: T tokens, H heads, K channels of a head, M table rows, P rotated pairs.
#pragma once

#include <ATen/core/Tensor.h>

namespace headway::ops {

/// Rotates the first 2·P channels of every head by the angle of its token's position; the rest
/// passes through.
///   half layout: pairs (j, j+P); interleaved: pairs (2j, 2j+1)
///   y_a = x_a·cos - x_b·sin, y_b = x_b·cos + x_a·sin
/// Shapes: x [T,H,K] (last dim contiguous, tokens and heads may be strided), cos and sin [M,P] with
///         2P <= K (any attention factor already multiplied in), positions int64 [T] on the CPU,
///         each in [0,M) -> contiguous [T,H,K].
/// Dtype:  cos and sin fp32 (fp64 for fp64 x) and never rounded to 16 bits: the rotation of 16-bit
///         x runs in fp32 with one rounding. Grad: x (rotation by the negative angle; saves no x).
///         Deterministic.
/// Errors: ShapeError (shapes, position outside the table); UnsupportedError if a forced kernel
///         ("rope") cannot run.
/// Source: Su et al. 2021, eq. 34. Test: tests/kernels/rope_test.cpp
at::Tensor rope(const at::Tensor& x_THK, const at::Tensor& cos_MP, const at::Tensor& sin_MP,
                const at::Tensor& positions_T, bool interleaved);

}  // namespace headway::ops
