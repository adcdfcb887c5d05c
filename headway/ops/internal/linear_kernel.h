// The row type of the linear op's kernel table and its CPU kernel for few rows.
// Not for: callers of the op (use headway/ops/linear.h).
#pragma once

#include <ATen/core/Tensor.h>

#include "headway/ops/kernel_table.h"

namespace headway::ops::internal {

/// Checked arguments; `bias` may be undefined.
struct LinearArguments {
  at::Tensor x;       // [T,I]
  at::Tensor weight;  // [O,I]
  at::Tensor bias;    // [O] or undefined
};

struct LinearFunctions {
  at::Tensor (*forward)(const LinearArguments&) = nullptr;
};

using LinearKernel = Kernel<LinearArguments, LinearFunctions>;

/// Reads the weight once for at most 8 rows of float32 or 4 of bfloat16, on the CPU, by Highway.
Support gemv_supports(const LinearArguments& arguments);
at::Tensor gemv_forward(const LinearArguments& arguments);

}  // namespace headway::ops::internal
