// One tensor for several readers whose gradients add up with one rounding.
// Not for: copies.
#pragma once

#include <cstdint>
#include <vector>

#include <ATen/core/Tensor.h>

namespace headway::ops {

/// `count` views of x. Not to be written into.
/// Grad: of x, the sum of the gradients that the views got, in order, in fp32 (fp64 for fp64) with
///   one rounding at the end; autograd's own sum would round 16-bit gradients once a reader.
///   Views that nobody read cost nothing. Errors: ShapeError for count < 1.
/// Test: tests/unit/nn/shared_kv_test.cpp
std::vector<at::Tensor> fan_out(const at::Tensor& x, int64_t count);

}  // namespace headway::ops
