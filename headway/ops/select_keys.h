// Scores of a lightning indexer and the keys that each query keeps by them.
// Not for: projections of the indexer (nn/indexer.h), its loss (ops/index_loss.h) or attention over
// the kept keys (ops/sparse_attention.h).
// Legend: T query tokens, S key tokens, N index heads, D channels of an index head.
#pragma once

#include <cstdint>

#include <ATen/core/Tensor.h>

#include "headway/ops/sequences.h"

namespace headway::ops {

/// What an indexer compares: query heads, one key a token, and a weight for every query head.
struct IndexInputs {
  at::Tensor q_TND;
  at::Tensor k_SD;
  at::Tensor w_TN;
};

/// relu: I[t,u] = Σ_n w[t,n]·max(q[t,n]·k[u], 0); otherwise without the max.
struct IndexOptions {
  int64_t top_k = 0;
  bool relu = true;
};

/// I[t,u] of query rows [first, last) and key rows [0, keys) of `k`, in the accumulation type of
/// the inputs: [last - first, keys]. Takes no account of what a query sees. Grad: none.
at::Tensor index_scores(const IndexInputs& in, const IndexOptions& options);

/// The min(top_k, longest run of keys) keys with the largest I[t,u] among those query t sees: keys
/// of its own sequence up to itself (bottom-right aligned, as ops::attention). Of equal scores
/// those are taken that at::topk takes over all keys of the sequence, as the references do (exact
/// zeros of few heads often tie); a score that is not a number is the smallest.
/// Shapes: q [T,N,D], k [S,D], w [T,N] -> int64 [T,K] on the CPU: rows of k in ascending order,
///   then -1 where a query sees fewer.
/// Dtype:  scores in fp32 (fp64 for fp64). Grad: none; nothing flows through the choice.
/// Cost:   a block of query rows at a time: O(block·N·S) memory, never [T,S].
/// Deterministic: the same build, threads and shapes choose the same keys.
/// Errors: ShapeError (argument, got, want); ConfigError for top_k < 1.
/// Source: DeepSeek-V3.2 (2025), eq. 1; spec/variants.md §2.2.
/// Test:   tests/kernels/sparse_attention_test.cpp
at::Tensor select_keys(const IndexInputs& in, const Sequences& sequences,
                       const IndexOptions& options);

}  // namespace headway::ops
