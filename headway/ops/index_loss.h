// How far an indexer's scores are from what attention looks at: the loss that trains it.
// Not for: choosing keys (ops/select_keys.h).
// Legend: T query tokens, S key tokens, N index heads, D channels of an index head, H heads, K
// channels of a key, J chosen keys.
#pragma once

#include <ATen/core/Tensor.h>

#include "headway/ops/select_keys.h"
#include "headway/ops/sequences.h"

namespace headway::ops {

/// What the indexer is to imitate: attention of H query heads over one key a token.
struct IndexTarget {
  at::Tensor q_THK;
  at::Tensor kv_SK;
  double scale = 1.0;
};

/// Σ_t KL_t over the keys Ω_t: those that query t sees, or with `chosen` [T,J] (-1 = none) those.
///   p_t(u) = Σ_h softmax_Ω(scale·q[t,h]·kv[u]), divided by its sum (at least 1e-10)
///   KL_t   = Σ_u p_t(u)·(log max(p_t(u), 1e-10) - log softmax_Ω(I_t)(u)), 0 without keys
/// Shapes: index as select_keys, q [T,H,K], kv [S,K], chosen int64 [T,J] on the CPU or undefined
///   -> [] in fp32 (fp64 for fp64).
/// Grad:   index q, k and w only: dI_t(u) = softmax_Ω(I_t)(u) - p_t(u); the target gets none. They
///   are computed in the forward pass, which has all they need. Deterministic.
/// Cost:   a block of query rows at a time: O(block·(H + N)·S) memory, or ·J with `chosen`.
/// Errors: ShapeError (argument, got, want).
/// Source: DeepSeek-V3.2 (2025), eq. 3 and 4; spec/variants.md §2.4.
/// Test: tests/kernels/index_loss_test.cpp
at::Tensor index_loss(const IndexInputs& index, const IndexTarget& target,
                      const at::Tensor& chosen_TJ, const Sequences& sequences, bool relu);

}  // namespace headway::ops
