// Megatron-Core's description of packed sequences (PackedSeqParams), with gaps between them, and
// what Headway makes of it.
// Not for: packing of our own training data (data/packing.h), which leaves no gaps.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "headway/ops/sequences.h"

namespace headway::ops {

/// What becomes of rows behind the last boundary.
enum class TailPolicy {
  kRefuse,               // there may be none
  kAppendDummySequence,  // upstream append_dummy_seq: one more sequence, which sees only itself
  kExtendLast,           // upstream extend_last: padding of the last sequence
};

/// Sequence n has cu_seqlens_q[n+1] - cu_seqlens_q[n] query rows from row cu_seqlens_q_padded[n]
/// on; rows from its end to cu_seqlens_q_padded[n+1] are padding. Likewise for keys and values.
/// Boundaries may repeat: such sequences are empty.
struct PackedBoundaries {
  std::vector<int64_t> cu_seqlens_q{0};
  std::vector<int64_t> cu_seqlens_kv;  // empty = those of the queries, padding included
  std::optional<std::vector<int64_t>> cu_seqlens_q_padded;  // none = cu_seqlens_q
  std::optional<std::vector<int64_t>> cu_seqlens_kv_padded;
  /// false: the caller asserts that there are no gaps, and padded boundaries are the sequences'
  /// own. Otherwise gaps are where the whole lists differ, their last entries included.
  std::optional<bool> pad_between_seqs;
  std::optional<int64_t> max_seqlen_q;  // at least the longest sequence; checked, else unused
  std::optional<int64_t> max_seqlen_kv;
  TailPolicy tail = TailPolicy::kRefuse;
};

/// Sequences over `rows_q` query rows and `rows_kv` key rows. Padding becomes sequences of their
/// own that have queries without keys, or keys without queries: attention gives such rows output
/// and gradient 0, and nobody sees them (they count as sequences where AttentionOptions::mask and
/// bias are not broadcast over sequences). Positions restart at 0 in every sequence; padding stands
/// at 0.
/// Errors: ShapeError naming the list: it does not begin at 0, falls, has another length than the
///   other lists, a padded sequence shorter than the sequence, boundaries behind the last row, rows
///   behind the last boundary under kRefuse, max_seqlen below the longest sequence.
/// Source: spec/attention.md §3.3; Megatron-Core packed_seq_params. Test:
///   tests/unit/ops/packed_boundaries_test.cpp, tests/property/ops/padded_attention_test.cpp
Sequences sequences_of(const PackedBoundaries& boundaries, int64_t rows_q, int64_t rows_kv);

/// Several micro-batch samples of `rows` rows each as one run of rows: boundaries of sample b are
/// moved by b·rows; empty sequences (repeated boundaries) are dropped.
/// Errors: as sequences_of for every sample.
Sequences merged_sequences(const std::vector<PackedBoundaries>& samples, int64_t rows);

/// int64 [S] on the CPU: position of every key within its sequence, from 0; keys of a sequence
/// without queries stand at 0.
at::Tensor key_positions(const Sequences& sequences);

}  // namespace headway::ops
