// Fused norm rows on raw pointers. Not for: tensors (cpu/norm.cpp), argument checks (norm.cpp).
// Legend: C channels; "like x" is Element; tensors without a layout are contiguous [rows,C].
#pragma once

#include <cstdint>

#include "headway/ops/cpu/element.h"
#include "headway/ops/internal/row_layout.h"

namespace headway::ops::cpu {

using internal::RowLayout;

/// What the row x̂ is multiplied with.
enum class NormWeighting {
  kNone,
  kDirect,   // w
  kRounded,  // w, after x̂ has been rounded to the element type
  kOnePlus,  // 1 + w
};

struct NormShape {
  Element element = Element::kFloat;
  NormWeighting weighting = NormWeighting::kDirect;
  bool layer = false;
  int64_t channels = 0;
  const float* weight = nullptr;  // [C], unless kNone
};

struct NormForwardRows {
  NormShape shape;
  const void* x = nullptr;  // like x
  RowLayout x_layout;
  const void* delta = nullptr;  // like x, or null
  RowLayout delta_layout;
  void* sum = nullptr;          // x + delta, like x; null without delta
  const float* bias = nullptr;  // [C] or null; LayerNorm only
  float eps = 0;
  void* y = nullptr;      // like x
  float* mean = nullptr;  // [rows]; LayerNorm only
  float* rstd = nullptr;  // [rows]
};

struct NormBackwardRows {
  NormShape shape;
  const void* x = nullptr;
  RowLayout x_layout;
  const void* d_y = nullptr;  // like x
  RowLayout d_y_layout;
  const void* d_sum = nullptr;  // like x, or null; added to d_x
  RowLayout d_sum_layout;
  const float* mean = nullptr;
  const float* rstd = nullptr;
  void* d_x = nullptr;  // like x
};

/// Rows [begin, end).
void norm_forward_rows(const NormForwardRows& rows, int64_t begin, int64_t end);

/// Rows [begin, end); adds their part of the weight's and bias's gradient to d_weight and d_bias
/// ([C], either may be null).
void norm_backward_rows(const NormBackwardRows& rows, int64_t begin, int64_t end, float* d_weight,
                        float* d_bias);

}  // namespace headway::ops::cpu
