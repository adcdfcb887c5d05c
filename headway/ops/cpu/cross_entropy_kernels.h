// Softmax statistics and gradients of blocks of logits, on raw pointers.
// Not for: tensors, products or threads (cpu/cross_entropy.cpp).
#pragma once

#include <cstdint>

#include "headway/ops/cpu/element.h"

namespace headway::ops::cpu {

/// Logits of `rows` tokens for the vocabulary [first, first + columns), contiguous, uncapped.
struct LogitBlock {
  Element element = Element::kFloat;
  const void* logits = nullptr;
  int64_t rows = 0;
  int64_t columns = 0;
  int64_t first = 0;
  double softcap = 0;
  const int64_t* labels = nullptr;  // [rows], of the whole vocabulary
};

/// For every row of a block: its largest logit (NaN if one is not finite), Σ exp(z - largest), and
/// the logit of its label where that lies in the block (left alone elsewhere).
struct BlockStatistics {
  float* peak = nullptr;
  double* sum = nullptr;
  double* label_logit = nullptr;
};
void block_statistics(const LogitBlock& block, const BlockStatistics& statistics);

/// out = factor·exp(z - lse) less 1/divisor at the label, times the derivative of the soft cap.
struct BlockGradient {
  const double* lse = nullptr;     // [rows]
  const double* factor = nullptr;  // [rows], NaN makes the row NaN
  double divisor = 1;
  void* out = nullptr;  // like the logits
};
void block_gradient(const LogitBlock& block, const BlockGradient& gradient);

}  // namespace headway::ops::cpu
