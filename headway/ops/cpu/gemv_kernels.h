// Products of a weight with few rows of x, on raw pointers. Not for: tensors (cpu/gemv.cpp) or many
// rows (the library's GEMM).
// Legend: T tokens, I inputs, O outputs.
#pragma once

#include <cstdint>

#include "headway/ops/cpu/element.h"

namespace headway::ops::cpu {

struct Gemv {
  Element element = Element::kFloat;
  int64_t tokens = 0;
  int64_t inputs = 0;
  const float* x = nullptr;      // [T,I] contiguous
  const void* weight = nullptr;  // [O,I] of `element`, rows `weight_stride` apart
  int64_t weight_stride = 0;
  const float* bias = nullptr;  // [O] or null
  void* y = nullptr;            // [T,O] of `element`, rows `y_stride` apart
  int64_t y_stride = 0;
};

/// Outputs [begin, end) of every token. A value does not depend on the range it is computed in.
void gemv_outputs(const Gemv& gemv, int64_t begin, int64_t end);

}  // namespace headway::ops::cpu
