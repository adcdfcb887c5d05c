// Activations on raw pointers. Not for: tensors (cpu/activation.cpp), argument checks
// (activation.cpp).
#pragma once

#include <cstdint>

#include "headway/ops/cpu/element.h"

namespace headway::ops::cpu {

enum class Curve { kSilu, kGeluTanh, kRelu };

/// Contiguous tensors. Plain: x, y, d_y, d_x [rows, width]; gated: x and d_x [rows, 2·width] with
/// rows [gate | up].
struct ActivationRows {
  Element element = Element::kFloat;
  Curve curve = Curve::kSilu;
  bool gated = false;
  float limit = 0;  // clamp of the gated form; infinity: none
  int64_t width = 0;
  const void* x = nullptr;
  const void* d_y = nullptr;
  void* y = nullptr;
  void* d_x = nullptr;
};

/// Rows [begin, end): forward (writes y) if d_y is null, else backward (writes d_x).
void activation_rows(const ActivationRows& rows, int64_t begin, int64_t end);

}  // namespace headway::ops::cpu
