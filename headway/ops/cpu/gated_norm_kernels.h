// Fused rows of the gated norm on raw pointers. Not for: tensors (cpu/gated_norm.cpp).
// Legend: C channels; tensors without a layout are contiguous [rows,C].
#pragma once

#include <cstdint>

#include "headway/ops/cpu/element.h"
#include "headway/ops/internal/row_layout.h"

namespace headway::ops::cpu {

struct GatedNormRows {
  Element element = Element::kFloat;
  bool silu = true;  // else the logistic function
  int64_t channels = 0;
  const void* x = nullptr;
  internal::RowLayout x_layout;
  const void* z = nullptr;
  internal::RowLayout z_layout;
  const float* weight = nullptr;  // [C]: w', the 1 of zero-centred weights added
  float eps = 0;
  float* rstd = nullptr;  // [rows]; written forward, read backward
  void* y = nullptr;
  const void* d_y = nullptr;
  internal::RowLayout d_y_layout;
  void* d_x = nullptr;
  void* d_z = nullptr;
};

/// Rows [begin, end).
void gated_norm_forward_rows(const GatedNormRows& rows, int64_t begin, int64_t end);
/// Rows [begin, end); adds their part of the weight's gradient to d_weight [C].
void gated_norm_backward_rows(const GatedNormRows& rows, int64_t begin, int64_t end,
                              float* d_weight);

}  // namespace headway::ops::cpu
