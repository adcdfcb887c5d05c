// Softmax attention over packed sequences.
// Not for: projections, norms, rotary embedding, gates or caches (nn composes those).
// Legend: T query tokens, S key tokens, H query heads, G kv heads, K head dim, V value dim.
#pragma once

#include <cstdint>

#include <ATen/core/Tensor.h>

#include "headway/ops/sequences.h"

namespace headway::ops {

/// Which keys a query may see inside its own sequence. Query i of a sequence with sq queries and sk
/// keys stands at i' = i + (sk - sq); key j is visible iff i' - left <= j <= i' + right. -1 =
/// unbounded on that side. Causal: right = 0. A window of W tokens (the query included): left = W
/// - 1.
struct AttentionRule {
  int64_t left = -1;
  int64_t right = 0;
};

/// Dropout of probabilities, drawn by a counter: whether p[i,j] of head h is kept depends on
/// (key, h, row of the query in q, row of the key in k) and on nothing else, so every kernel,
/// tiling, number of threads and recomputation draws the same. Stream: docs/numerics.md.
struct AttentionDropout {
  double probability = 0.0;  // 0 = off; kept entries are divided by 1 - probability
  uint64_t key = 0;          // of this call: ops::dropout_key
};

/// Key of a call from what tells calls apart: the run's seed, the step, the micro-batch, the layer.
uint64_t dropout_key(uint64_t seed, uint64_t step, uint64_t micro_batch, uint64_t layer);

/// `mask` and `bias` broadcast to [N, H, max sq, max sk]: sequence n, head, query and key counted
/// within their sequence. Both are computed by the reference kernel only.
struct AttentionOptions {
  double scale = 1.0;
  AttentionRule rule;
  double softcap = 0.0;  // 0 = off; else z <- softcap·tanh(z / softcap) after the scale
  AttentionDropout dropout;
  at::Tensor mask;  // bool, true = hidden, in addition to the rule; undefined = none
  at::Tensor bias;  // floating, added after the soft cap; undefined = none
};

/// Attention with grouped keys, window, mask, bias, sinks, logit soft cap and dropout.
///   z[i,j] = softcap(scale · q_i·k_j) + bias[i,j], hidden keys -inf
///   p[i,j] = exp(z[i,j]) / (exp(sink_h) + sum_j exp(z[i,j]))   (no sink: the first term is absent)
///   out[i,h,:] = sum_j kept[i,j] / (1 - probability) · p[i,j] v_j; a query that sees no key gives
///   exactly 0, and so do its gradients
/// Shapes: q [T,H,K], k [S,G,K], v [S,G,V], sinks [H] or undefined -> [T,H,V]; H % G == 0; query
/// head
///   h reads kv head h / (H/G). Last dims contiguous; rows and heads may be strided (views of a
///   fused projection are fine).
/// Dtype:  float32, float64, bfloat16, float16; scores and softmax in fp32 (fp64 for fp64), result
/// in
///   q's dtype; sinks of any floating dtype.
/// Grad:   q, k, v, sinks, bias (summed over the dimensions it broadcasts); saves inputs, out and
///   the log-sum-exp [H,T]. Deterministic.
/// Cost:   O(T·min(S, left+right)) time, O(T+S) memory (the reference kernel, and so float64, masks
///   and biases: O(T·S) for one kv head at a time).
/// Errors: ShapeError (argument, got, want); ConfigError (options); UnsupportedError if a forced
///   kernel cannot run.
/// Source: Dao 2023, FlashAttention-2 (online softmax); Xiao et al. 2023, attention sinks.
/// Test:   tests/kernels/attention_test.cpp, tests/property/ops/attention_test.cpp
at::Tensor attention(const at::Tensor& q_THK, const at::Tensor& k_SGK, const at::Tensor& v_SGV,
                     const at::Tensor& sinks_H, const Sequences& sequences,
                     const AttentionOptions& options);

}  // namespace headway::ops
