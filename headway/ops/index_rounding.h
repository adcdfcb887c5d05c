// What the deployed form of an indexer does to its queries and keys before it compares them: a
// rotation that spreads outliers, and rounding to 8 bits.
// Not for: weights in 8 bits on disk (io).
#pragma once

#include <cstdint>

#include <ATen/core/Tensor.h>

namespace headway::ops {

/// y = H x / sqrt(C) over the last dimension, H the Walsh-Hadamard matrix of Sylvester's order with
/// entries ±1: orthogonal and its own inverse, so products of two rotated vectors are unchanged.
/// Shapes: […,C] with C a power of two -> alike, contiguous. Dtype: in fp32 (fp64 for fp64), one
/// rounding. Grad: x (the same rotation). Cost: C·log2(C) additions a row. Errors: ShapeError.
/// Source: Fino & Algazi 1976. Test: tests/kernels/index_loss_test.cpp
at::Tensor hadamard(const at::Tensor& x);

/// x as a number format of 8 bits holds it, in x's dtype: blocks of 128 channels (the last one may
/// be shorter) are divided by a scale, rounded to e4m3 and multiplied again. The scale is
/// max(|block|, 1e-4) / 448, rounded up to a power of two.
/// Grad: as if nothing was rounded. Source: DeepSeek-V3.2-Exp; spec/variants.md §2.2.
/// Test: tests/kernels/index_loss_test.cpp
at::Tensor round_to_fp8_blocks(const at::Tensor& x);

}  // namespace headway::ops
