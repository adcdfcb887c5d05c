// The largest attention logit of every head, for watching logits grow and for QK-Clip.
// Not for: attention itself (ops/attention.h) or what to do about large logits (nn/qk_clip.h).
// Legend: T query tokens, S key tokens, H query heads, G kv heads, K head dim.
#pragma once

#include <ATen/core/Tensor.h>

#include "headway/ops/attention.h"
#include "headway/ops/sequences.h"

namespace headway::ops {

/// Largest visible score of every query head.
///   max[h] = max over sequences, queries i and keys j visible to i of scale · q_i·k_j
/// before bias, soft cap and sink, and whatever dropout drops; visible is what rule and mask leave;
/// -inf for a head none of whose queries sees a key.
/// Shapes: q [T,H,K], k [S,G,K] -> [H]; H % G == 0; last dims contiguous.
/// Dtype:  any floating q and k of one dtype; result fp32 (fp64 for fp64). A NaN score gives NaN.
/// Grad:   none: the result is detached. Deterministic.
/// Cost:   the product of queries and visible keys, cut into blocks: O(T+S) memory (the reference,
///   and so float64 and masks: O(T·S) of one sequence and kv head).
/// Errors: ShapeError (argument, got, want); ConfigError (options); UnsupportedError if a forced
///   kernel cannot run.
/// Source: Megatron-Core, current_max_attn_logits; spec/attention.md §3.8.
/// Test:   tests/kernels/attention_max_logit_test.cpp
at::Tensor attention_max_logit(const at::Tensor& q_THK, const at::Tensor& k_SGK,
                               const Sequences& sequences, const AttentionOptions& options);

}  // namespace headway::ops
