// Attention of many sequences whose keys and values lie in pages, and the moves in and out of
// pages. Not for: training (no gradients), or who owns which page (engine/block_pool.h). Legend: T
// query tokens, N sequences, M table entries of a sequence, P pages, B rows of a page, H query
// heads, G kv heads, K head dim, V value dim.
#pragma once

#include <cstdint>
#include <vector>

#include <ATen/core/Tensor.h>

#include "headway/ops/attention.h"
#include "headway/ops/sequences.h"

namespace headway::ops {

/// Keys and values in pages of B rows. Row j of sequence n is row j % B of page
/// block_table[n, j / B]. Entries of pages without a visible key are never read and may be anything
/// (-1 by custom). Pages may lie at any stride: a [rows, batch, G, K] cache seen as
/// [batch, rows, G, K] is one page a sequence.
struct PagedKeys {
  at::Tensor k_PBGK;          // channels contiguous
  at::Tensor v_PBGV;          // channels contiguous
  at::Tensor block_table_NM;  // int32, on the CPU
};

/// The formula, options and numbers of ops::attention with keys read through pages. Sequence n has
/// cu_q[n+1]-cu_q[n] queries and cu_k[n+1]-cu_k[n] keys; its last query stands on its last key.
/// Decode steps, chunks of prompts and sequences without queries may stand in one call.
/// Shapes: q [T,H,K], k [P,B,G,K], v [P,B,G,V], sinks [H] or undefined -> [T,H,V]; H % G == 0.
/// Dtype:  as ops::attention. Grad: none. Deterministic; a sequence's result does not depend on the
///   ids of its pages or on the other sequences of the call.
/// Cost:   pages are read in place: O(visible keys) time, O(T) memory (the reference gathers).
/// Errors: ShapeError (argument, got, want); ConfigError (options); UnsupportedError when a
///   gradient would be recorded, for dropout, mask and bias, or if a forced kernel cannot run.
/// Source: Kwon et al. 2023, PagedAttention. Test: tests/kernels/paged_attention_test.cpp
at::Tensor paged_attention(const at::Tensor& q_THK, const PagedKeys& keys,
                           const at::Tensor& sinks_H, const Sequences& sequences,
                           const AttentionOptions& options);

/// Writes x[t] to row slots[t] % B of page slots[t] / B; rows with a negative slot are dropped. No
/// two rows may share a slot.
/// Shapes: pages [P,B,G,X], x [T,G,X] of the same dtype and device, slots int64 [T] on the CPU.
/// Errors: ShapeError. Test: tests/kernels/paged_attention_test.cpp
void store_pages(const at::Tensor& pages_PBGX, const at::Tensor& x_TGX, const at::Tensor& slots_T);

/// Rows of one sequence to gather.
struct PageRows {
  int64_t sequence;
  int64_t first;
  int64_t last;
};

/// The rows [first, last) of the given sequences, one after the other: [P,B,G,X] -> [S,G,X].
/// Errors: ShapeError for a row without a page.
at::Tensor gather_pages(const at::Tensor& pages_PBGX, const at::Tensor& block_table_NM,
                        const std::vector<PageRows>& rows);

}  // namespace headway::ops
