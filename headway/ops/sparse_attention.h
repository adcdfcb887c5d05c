// Attention of every query over its own few keys: multi-query attention on gathered rows, where one
// row of a token serves all heads as key and, by its first channels, as value.
// Not for: choosing the keys (ops/select_keys.h) or attention over all of them (ops/attention.h).
// Legend: T query tokens, S key tokens, H heads, K channels of a key, V of a value, J keys a query.
#pragma once

#include <cstdint>

#include <ATen/core/Tensor.h>

namespace headway::ops {

/// p[t,h,j] = softmax over the chosen u_j = chosen[t,j] >= 0 of scale·q[t,h]·kv[u_j];
/// out[t,h] = Σ_j p[t,h,j]·kv[u_j, :V]. -1 stands for no key; a query without keys gives 0, as do
/// its gradients. Causality is the choice's business.
/// Shapes: q [T,H,K], kv [S,K] (rows may be strided), chosen int64 [T,J] on the CPU with entries in
///   [-1,S), value_dim V in [1,K] -> [T,H,V].
/// Dtype:  float32, float64, bfloat16, float16; all sums in fp32 (fp64 for fp64), one rounding.
/// Grad:   q and kv, through the chosen entries only (a row of kv takes its key and its value
///   part); nothing through the choice. Saves inputs and the output. Deterministic: gradients of kv
///   add up in a fixed order.
/// Cost:   O(T·J) time; one token's [J,K] rows a thread forward, and up to 8 more sums [S,K]
///   backward (the reference: a block of tokens' rows). Never O(T·S).
/// Errors: ShapeError (argument, got, want); UnsupportedError if a forced kernel cannot run.
/// Source: DeepSeek-V3.2 (2025), eq. 2; spec/variants.md §2.3.
/// Test: tests/kernels/sparse_attention_test.cpp
at::Tensor sparse_attention(const at::Tensor& q_THK, const at::Tensor& kv_SK,
                            const at::Tensor& chosen_TJ, int64_t value_dim, double scale);

}  // namespace headway::ops
