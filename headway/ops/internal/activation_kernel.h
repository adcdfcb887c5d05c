// What every activation kernel takes: the row type of the table in activation.cpp.
// Not for: callers of the op (use headway/ops/activation.h).
// Legend: F width of the MLP, rows = tokens.
#pragma once

#include <ATen/core/Tensor.h>

#include "headway/ops/activation.h"
#include "headway/ops/kernel_table.h"

namespace headway::ops::internal {

/// Checked arguments; x contiguous.
struct ActivationArguments {
  at::Tensor x;  // gated: […,2F], else any shape
  ActivationKind kind = ActivationKind::kSilu;
  bool gated = false;
  GatedOptions options = {};  // gated only
};

struct ActivationFunctions {
  at::Tensor (*forward)(const ActivationArguments&) = nullptr;
  at::Tensor (*backward)(const ActivationArguments&, const at::Tensor& d_y) = nullptr;
};

using ActivationKernel = Kernel<ActivationArguments, ActivationFunctions>;

/// One pass by Highway: float32 and bfloat16 on the CPU; silu, tanh-gelu, relu, quick-gelu.
Support activation_simd_supports(const ActivationArguments& arguments);
at::Tensor activation_simd_forward(const ActivationArguments& arguments);
at::Tensor activation_simd_backward(const ActivationArguments& arguments, const at::Tensor& d_y);

}  // namespace headway::ops::internal
