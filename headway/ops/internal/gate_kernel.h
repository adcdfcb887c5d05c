// What every kernel of the sigmoid gate takes and returns: the row type of the table in gate.cpp.
// Not for: callers of the op (use headway/ops/gate.h).
// Legend: T tokens, H heads, V channels of a head.
#pragma once

#include <ATen/core/Tensor.h>

#include "headway/ops/kernel_table.h"

namespace headway::ops::internal {

/// Checked arguments.
struct GateArguments {
  at::Tensor x;     // [T,H,V], last dim contiguous
  at::Tensor gate;  // [T,H] or [T,H,V]
  bool head_wise() const { return gate.dim() == 2; }
};

struct GateGradients {
  at::Tensor x, gate;
};

struct GateFunctions {
  at::Tensor (*forward)(const GateArguments&) = nullptr;
  GateGradients (*backward)(const GateArguments&, const at::Tensor& d_y) = nullptr;
};

using GateKernel = Kernel<GateArguments, GateFunctions>;

/// One pass by Highway: float32 and bfloat16 on the CPU.
Support gate_simd_supports(const GateArguments& arguments);
at::Tensor gate_simd_forward(const GateArguments& arguments);
GateGradients gate_simd_backward(const GateArguments& arguments, const at::Tensor& d_y);

}  // namespace headway::ops::internal
