// The sigmoid gate on raw pointers. Not for: tensors (cpu/gate.cpp), argument checks (gate.cpp).
// Legend: T tokens, H heads, V channels of a head.
#pragma once

#include <cstdint>

#include "headway/ops/cpu/element.h"

namespace headway::ops::cpu {

/// Strides in elements of a [T,H,V] tensor with contiguous V, or of a [T,H] one.
struct HeadStrides {
  int64_t token = 0;
  int64_t head = 0;
};

/// Element pointers; the outputs are contiguous. Forward writes y, backward d_x and d_gate.
struct GateRows {
  Element element = Element::kFloat;
  bool head_wise = false;
  int64_t heads = 0;
  int64_t channels = 0;
  const void* x = nullptr;
  HeadStrides x_strides;
  const void* gate = nullptr;
  HeadStrides gate_strides;
  const void* d_y = nullptr;
  HeadStrides d_y_strides;
  void* y = nullptr;
  void* d_x = nullptr;
  void* d_gate = nullptr;
};

/// All heads of tokens [begin, end).
void gate_forward_tokens(const GateRows& rows, int64_t begin, int64_t end);
void gate_backward_tokens(const GateRows& rows, int64_t begin, int64_t end);

}  // namespace headway::ops::cpu
