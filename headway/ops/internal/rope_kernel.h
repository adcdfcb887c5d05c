// What every rope kernel takes: the row type of the table in rope.cpp.
// Not for: callers of the op (use headway/ops/rope.h).
// Legend: T tokens, H heads, K channels of a head, M table rows, P rotated pairs.
#pragma once

#include <ATen/core/Tensor.h>

#include "headway/ops/kernel_table.h"

namespace headway::ops::internal {

/// Checked arguments. `inverse` turns by the negative angle: the gradient.
struct RopeArguments {
  at::Tensor x;          // [T,H,K]
  at::Tensor cos, sin;   // [M,P] contiguous
  at::Tensor positions;  // int64 [T] contiguous, on the CPU
  bool interleaved = false;
  bool inverse = false;
};

struct RopeFunctions {
  at::Tensor (*rotate)(const RopeArguments&) = nullptr;
};

using RopeKernel = Kernel<RopeArguments, RopeFunctions>;

/// Rotation in registers by Highway: float32 and bfloat16 on the CPU.
Support rope_simd_supports(const RopeArguments& arguments);
at::Tensor rope_simd(const RopeArguments& arguments);

}  // namespace headway::ops::internal
