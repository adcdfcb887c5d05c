// Head projection and cross-entropy in one op that never holds all logits.
// Not for: logits that a caller wants to see (use linear).
#pragma once

#include <cstdint>

#include <ATen/core/Tensor.h>

namespace headway::ops {

struct CrossEntropyOptions {
  double softcap = 0.0;  // 0 = off; else z <- softcap·tanh(z / softcap), in fp32
  double z_loss = 0.0;   // adds z_loss·(logsumexp z)² per counted token
  int64_t ignore_index = -100;
  int64_t divisor = 0;  // 0 = number of counted tokens, at least 1; else that (accumulation)
};

struct CrossEntropyResult {
  at::Tensor loss;  // [] differentiable: (Σ ce + z-loss) / divisor, fp32 (fp64 for fp64)
  at::Tensor ce;    // [] detached: Σ ce / divisor
  int64_t num_counted = 0;
};

/// loss = (1/divisor) Σ_t [ logsumexp(z_t) - z_t[label_t] + z_loss·logsumexp(z_t)² ],  z = x Wᵀ
/// Shapes: x [T,D], weight [V,D], labels int64 [T], already shifted -> scalar.
/// Dtype:  logits of a chunk in x's dtype by GEMM, softmax in fp32 (fp64), sums over tokens in
/// fp64. Memory: one chunk of logits (64 MiB, or 256 tokens if that is more), dx [T,D] and dW
/// [V,D]:
///   the forward forms dx and dW chunk by chunk when a gradient is needed, backward scales them.
///   Labels equal to ignore_index are skipped before the GEMM; no counted token gives loss 0 and
///   zero gradients.
/// Grad:   x, weight. Deterministic.
/// Errors: ShapeError (shapes, dtypes, a label outside [0,V)); ConfigError (options).
/// Test:   tests/kernels/linear_cross_entropy_test.cpp
CrossEntropyResult linear_cross_entropy(const at::Tensor& x_TD, const at::Tensor& weight_VD,
                                        const at::Tensor& labels_T,
                                        const CrossEntropyOptions& options);

}  // namespace headway::ops
