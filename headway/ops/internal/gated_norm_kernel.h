// What every kernel of the gated norm takes and returns: the row type of the table in
// gated_norm.cpp. Not for: callers of the op (use headway/ops/gated_norm.h).
#pragma once

#include <ATen/core/Tensor.h>

#include "headway/ops/gated_norm.h"
#include "headway/ops/kernel_table.h"

namespace headway::ops::internal {

/// Checked arguments.
struct GatedNormArguments {
  at::Tensor x, z;    // […,C]
  at::Tensor weight;  // [C] or undefined
  GatedNormOptions options;
};

/// rstd has the shape of the rows, fp32 (fp64 for fp64).
struct GatedNormForward {
  at::Tensor y, rstd;
};

struct GatedNormGradients {
  at::Tensor x, z, weight;  // weight undefined without one
};

struct GatedNormFunctions {
  GatedNormForward (*forward)(const GatedNormArguments&) = nullptr;
  GatedNormGradients (*backward)(const GatedNormArguments&, const at::Tensor& rstd,
                                 const at::Tensor& d_y) = nullptr;
};

using GatedNormKernel = Kernel<GatedNormArguments, GatedNormFunctions>;

/// Fused rows by Highway: float32 and bfloat16 on the CPU.
Support gated_norm_simd_supports(const GatedNormArguments& arguments);
GatedNormForward gated_norm_simd_forward(const GatedNormArguments& arguments);
GatedNormGradients gated_norm_simd_backward(const GatedNormArguments& arguments,
                                            const at::Tensor& rstd, const at::Tensor& d_y);

}  // namespace headway::ops::internal
