// Matrix product with weights stored [out, in].
// Not for: batched or grouped products.
#pragma once

#include <vector>

#include <ATen/core/Tensor.h>

namespace headway::ops {

/// y = x Wᵀ + b. Shapes: x [T,I], W [O,I], b [O] or undefined -> [T,O].
/// Dtype:  all of x's; sums in fp32 for 16-bit types.
/// Grad:   dx = dy W, dW = dyᵀ x, db = Σ_t dy in a fixed order; each only where needed.
/// Errors: ShapeError. Test: tests/kernels/linear_test.cpp
at::Tensor linear(const at::Tensor& x_TI, const at::Tensor& weight_OI, const at::Tensor& bias_O);

/// Column runs of x [T, Σ widths] (the row segments of a fused projection), sharing its memory, as
/// one autograd node: backward writes each run's gradient once into one buffer instead of adding
/// zero-padded copies. Not to be written into.
/// Shapes: x [T, Σ widths] -> for each width w a tensor [T, w].
/// Errors: ShapeError if a width is not positive or they do not add up.
std::vector<at::Tensor> split_columns(const at::Tensor& x, const std::vector<int64_t>& widths);

/// (residual + delta)·scale for a scalar tensor `scale` [1] (undefined = 1): the end of a block
/// with a layer scalar. Shapes: residual and delta alike. Dtype: all of residual's. Grad: residual,
/// delta, scale (only if it requires one). Errors: ShapeError.
at::Tensor scaled_residual(const at::Tensor& residual, const at::Tensor& delta,
                           const at::Tensor& scale);

}  // namespace headway::ops
