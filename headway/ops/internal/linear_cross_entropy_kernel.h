// The row type of the kernel table of linear + cross-entropy, and the chunks its fast kernels
// share. Not for: callers of the op (use headway/ops/linear_cross_entropy.h).
// Legend: N counted tokens, V vocabulary, D hidden, C tokens of one chunk.
#pragma once

#include <cstdint>

#include <ATen/core/Tensor.h>

#include "headway/ops/kernel_table.h"

namespace headway::ops::internal {

/// Checked arguments, ignored tokens already taken out.
struct CrossEntropyArguments {
  at::Tensor x;       // [N,D]
  at::Tensor weight;  // [V,D]
  at::Tensor labels;  // int64 [N], all in [0,V)
  double softcap = 0.0;
  double z_loss = 0.0;
  double divisor = 1.0;
  bool wants_dx = false;
  bool wants_dw = false;
};

/// Sums over tokens before the division, and gradients of the divided loss.
struct CrossEntropySums {
  double ce = 0.0;  // Σ logsumexp(z_t) - z_t[label_t]
  double z2 = 0.0;  // Σ logsumexp(z_t)²
  at::Tensor dx;    // [N,D] if wanted
  at::Tensor dw;    // [V,D] if wanted
};

struct CrossEntropyFunctions {
  CrossEntropySums (*run)(const CrossEntropyArguments&) = nullptr;
};

using CrossEntropyKernel = Kernel<CrossEntropyArguments, CrossEntropyFunctions>;

/// Tokens whose logits are held at a time: as many as 64 MiB hold, but at least 256 (fewer would
/// leave the products waiting for the weight), evened out over the chunks.
int64_t chunk_tokens(int64_t tokens, int64_t vocabulary, int64_t item_bytes);

/// Chunk after chunk by library calls: any dtype, any device.
CrossEntropySums cross_entropy_library(const CrossEntropyArguments& arguments);

/// Chunks in blocks of the vocabulary, softmax by Highway: float32 and bfloat16 on the CPU.
Support cross_entropy_simd_supports(const CrossEntropyArguments& arguments);
CrossEntropySums cross_entropy_simd(const CrossEntropyArguments& arguments);

}  // namespace headway::ops::internal
