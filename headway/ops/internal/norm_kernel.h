// What every norm kernel takes and returns: the row type of the table in norm.cpp.
// Not for: callers of the ops (use headway/ops/norm.h).
// Legend: C channels, … leading dimensions, called rows.
#pragma once

#include <ATen/core/Tensor.h>

#include "headway/ops/kernel_table.h"
#include "headway/ops/norm.h"

namespace headway::ops::internal {

struct NormOptions {
  double eps = 0;
  NormFlavour flavour = NormFlavour::kPlain;  // RMSNorm only
  bool layer = false;                         // LayerNorm: subtract the mean, add the bias
};

/// Checked arguments. With `delta`, the normalised tensor is x + delta rounded to x's dtype.
struct NormArguments {
  at::Tensor x;       // […,C]
  at::Tensor delta;   // like x, or undefined
  at::Tensor weight;  // [C] or undefined
  at::Tensor bias;    // [C] or undefined
  NormOptions options;
};

/// Statistics have the shape of the rows, fp32 (fp64 for fp64).
struct NormForward {
  at::Tensor sum;   // x + delta; undefined without delta
  at::Tensor y;     // […,C] contiguous
  at::Tensor mean;  // LayerNorm only
  at::Tensor rstd;
};

/// Here `x` of the arguments is what was normalised (the sum) and `delta` is undefined.
struct NormBackwardArguments {
  at::Tensor mean, rstd;
  at::Tensor d_y;
  at::Tensor d_sum;  // undefined, or added to the gradient of x
  bool weight = true, bias = true;
};

/// Gradients not asked for stay undefined; the others have the dtype of their input.
struct NormGradients {
  at::Tensor x, weight, bias;
};

struct NormFunctions {
  NormForward (*forward)(const NormArguments&) = nullptr;
  NormGradients (*backward)(const NormArguments&, const NormBackwardArguments&) = nullptr;
};

using NormKernel = Kernel<NormArguments, NormFunctions>;

/// Fused rows by Highway: float32 and bfloat16 on the CPU.
Support norm_simd_supports(const NormArguments& arguments);
NormForward norm_simd_forward(const NormArguments& arguments);
NormGradients norm_simd_backward(const NormArguments& arguments,
                                 const NormBackwardArguments& wanted);

}  // namespace headway::ops::internal
