// Rotation of heads on raw pointers. Not for: tensors (cpu/rope.cpp), argument checks (rope.cpp).
// Legend: T tokens, H heads, K channels of a head, M table rows, P rotated pairs.
#pragma once

#include <cstdint>

#include "headway/ops/cpu/element.h"

namespace headway::ops::cpu {

struct RopeRows {
  Element element = Element::kFloat;
  const void* x = nullptr;  // [T,H,K], element strides below
  int64_t token_stride = 0;
  int64_t head_stride = 0;
  int64_t heads = 0;
  int64_t channels = 0;
  const float* cos = nullptr;  // [M,P]
  const float* sin = nullptr;
  int64_t pairs = 0;
  const int64_t* positions = nullptr;  // [T]
  bool interleaved = false;
  bool inverse = false;
  void* y = nullptr;  // [T,H,K] contiguous
};

/// All heads of tokens [begin, end).
void rope_tokens(const RopeRows& rows, int64_t begin, int64_t end);

}  // namespace headway::ops::cpu
