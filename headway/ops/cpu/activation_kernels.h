// Activations on raw pointers. Not for: tensors (cpu/activation.cpp), argument checks
// (activation.cpp).
#pragma once

#include <cstdint>

#include "headway/ops/cpu/element.h"

namespace headway::ops::cpu {

enum class Curve { kSilu, kGeluTanh, kRelu, kQuickGelu };

/// Contiguous tensors. Plain: x, y, d_y, d_x [rows, width]; gated: x and d_x [rows, 2·width] with
/// rows [gate | up].
struct ActivationRows {
  Element element = Element::kFloat;
  Curve curve = Curve::kSilu;
  bool gated = false;
  // Clamps of the gated form, infinity: none. At most one of the gate's two is finite.
  float gate_limit = 0;  // before the activation
  float act_limit = 0;   // after it
  float up_limit = 0;    // both sides
  float offset = 0;      // added to up
  int64_t width = 0;
  const void* x = nullptr;
  const void* d_y = nullptr;
  void* y = nullptr;
  void* d_x = nullptr;
};

/// Rows [begin, end): forward (writes y) if d_y is null, else backward (writes d_x).
void activation_rows(const ActivationRows& rows, int64_t begin, int64_t end);

}  // namespace headway::ops::cpu
