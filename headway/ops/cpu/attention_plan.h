// How a call of the CPU attention is cut into tiles, blocks and tasks. Not for: arithmetic.
#pragma once

#include <optional>
#include <vector>

#include <ATen/core/Tensor.h>

#include "headway/ops/cpu/attention_tiles.h"

namespace headway::ops::cpu {

/// Pointers, sizes and factors of a call; `sinks` receives the float copy that the problem points
/// to.
AttentionProblem make_problem(const internal::AttentionArguments& arguments, at::Tensor& sinks);

HeadsView view_of(const at::Tensor& tensor_THX);

/// Sequence n, unless it has no query.
std::optional<SequenceSpan> make_span(const internal::AttentionArguments& arguments, int64_t n);

/// Sequences that have queries.
std::vector<SequenceSpan> make_spans(const internal::AttentionArguments& arguments);

/// Threads worth waking for a call: small ones run on the caller's.
int64_t workers_for(const AttentionProblem& problem, const std::vector<SequenceSpan>& spans,
                    int64_t groups);

/// Tiles of one sequence and kv head.
struct TileList {
  const SequenceSpan* span = nullptr;
  int64_t group = 0;
  std::vector<KeyTile> tiles;
};

enum class Copies { kForward, kBackward };

/// Key tiles of the given spans and all kv heads, and the memory of their copies.
class PackedKeys {
 public:
  PackedKeys(const AttentionProblem& problem, const std::vector<const SequenceSpan*>& spans,
             int64_t groups, Copies copies);

  /// Fills the copies on up to `workers` threads.
  void pack(const AttentionProblem& problem, int64_t workers) const;
  const TileList& of(size_t span, int64_t group) const { return lists_[span * groups_ + group]; }
  int64_t tile_keys() const { return tile_keys_; }

 private:
  int64_t groups_;
  int64_t tile_keys_;
  std::vector<TileList> lists_;
  at::Tensor memory_;
};

/// out and lse of all queries of `spans`.
void forward_spans(const AttentionProblem& problem, const std::vector<SequenceSpan>& spans,
                   int64_t groups);

/// Blocks of all queries of `list`.
std::vector<QueryBlock> make_blocks(const AttentionProblem& problem, const TileList& list,
                                    int64_t tile_keys);

/// Scores a block computes: what balances parts against each other.
int64_t cost_of(const AttentionProblem& problem, const QueryBlock& block);

}  // namespace headway::ops::cpu
