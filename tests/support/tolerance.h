// The one place where tolerances come from: rounding of a dtype and the length of the reduction.
// Not for: tolerances that a golden file states itself.
#pragma once

#include <cmath>
#include <cstdint>

#include <ATen/core/Tensor.h>

namespace headway::test {

/// Relative size of one rounding in `type`.
inline double unit_roundoff(at::ScalarType type) {
  switch (type) {
    case at::kDouble:
      return 0x1p-53;
    case at::kFloat:
      return 0x1p-24;
    case at::kHalf:
      return 0x1p-11;
    default:
      return 0x1p-8;  // bfloat16
  }
}

/// Allowed |got - want|, relative to the largest |want|, after sums of `length` terms: errors of
/// independent roundings grow with the square root of their number; 8 covers unlucky draws.
inline double tolerance(at::ScalarType type, int64_t length) {
  return 8.0 * unit_roundoff(type) * (1.0 + std::sqrt(static_cast<double>(length)));
}

}  // namespace headway::test
