// Row loops of the experts op on raw pointers. Not for: products or tensors (cpu/experts.cpp).
// Legend: K experts a token chooses.
#pragma once

#include <cstdint>

#include "headway/ops/cpu/element.h"

namespace headway::ops::cpu {

/// Row i of `rows` [count,width] is multiplied by factors[i].
void scale_expert_rows(Element element, void* rows, int64_t count, int64_t width,
                       const float* factors);

/// out[i] = Σ_c a[i,c]·b[i,c], both [count,width].
void dot_expert_rows(Element element, const void* a, const void* b, int64_t count, int64_t width,
                     float* out);

/// Sums of rows at given places.
struct CombineRows {
  Element element = Element::kFloat;
  const void* rows = nullptr;       // [N,width]
  const int64_t* places = nullptr;  // [tokens,K]; negative: no row
  int64_t top_k = 0;
  int64_t width = 0;
  void* out = nullptr;  // [tokens,width]
};

/// out[t] = Σ_j rows[places[t,j]] in float32, j rising, for tokens [begin, end).
void combine_expert_rows(const CombineRows& combine, int64_t begin, int64_t end);

}  // namespace headway::ops::cpu
