// What the driver of the CPU attention (attention_cpu.cpp) and its SIMD kernels tell each other:
// plain pointers, tiles and blocks. Not for: tensors or threads.
//
// Vocabulary. The m = H/G query heads of a kv head share its keys, so their queries are stacked
// into one tall matrix: row r of a block is token r / m, head r % m. A *block* is up to ~192 such
// rows, a *strip* 12 of them (one register tile), a *tile* up to kForwardTile or kBackwardTile
// keys, copied once per call into the layout the inner loops read. Scores live only as one strip
// (forward) or one block (backward) times one tile. Legend: T query tokens, S key tokens, H query
// heads, G kv heads, K head dim, V value dim.
#pragma once

#include <cstdint>

#include "headway/ops/internal/attention_kernel.h"

namespace headway::ops::cpu {

constexpr int64_t kStrip = 12;         // rows of a strip; every target's register tile divides it
constexpr int64_t kBlockRows = 192;    // rows of a block, unless one token has more heads
constexpr int64_t kForwardTile = 192;  // keys; tiles divide by a strip and by two vectors
constexpr int64_t kBackwardTile = 96;
constexpr int64_t kDecodeChunk = 512;  // keys of one decode task
constexpr int64_t kWidth = 32;         // two of the widest vectors: padding of copied rows

inline int64_t round_up(int64_t value, int64_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

enum class Element : uint8_t { kFloat, kBFloat16, kHalf };

/// [tokens, heads, channels], channels contiguous, strides in elements.
struct HeadsView {
  void* data = nullptr;
  int64_t row = 0;
  int64_t head = 0;
  int64_t page = 0;  // from page to page, for keys and values in pages
};

/// Everything that holds for a whole call.
struct AttentionProblem {
  Element element = Element::kFloat;
  HeadsView q, k, v, out, d_out, dq;
  double* lse = nullptr;         // [H,T]; double, since backward exponentiates scores minus lse
  const float* sinks = nullptr;  // [H] or null
  int64_t tokens = 0;            // T
  int64_t group_heads = 1;       // m
  int64_t key_dim = 0, value_dim = 0;
  int64_t key_width = 0, value_width = 0;  // the same, padded to whole vectors
  float scale = 1, softcap = 0;
  AttentionRule rule;
  bool drops = false;           // dropout is on
  uint32_t drop_threshold = 0;  // entries with fewer bits are dropped
  float kept_factor = 1;        // 1 / (1 - probability)
  uint64_t drop_key = 0;
  int64_t page_rows = 0;  // rows of a page, for sequences that have pages

  /// Queries are multiplied by this when copied: scores then are exponents of 2, or arguments of
  /// tanh.
  float query_factor() const { return softcap > 0 ? scale / softcap : scale * 1.44269504f; }
  /// d(scale·q·k)/d(copied q · k), times what `query_factor` put into the copy.
  float key_gradient_factor() const { return softcap > 0 ? softcap : 0.69314718f; }
};

/// One sequence, with the keys that any of its queries sees.
struct SequenceSpan {
  int64_t q0, sq, k0, sk;
  int64_t key_first, key_last;
  const int32_t* pages = nullptr;  // page of every page_rows keys; null: keys are rows k0, k0+1, …

  internal::KeyRange visible(const AttentionRule& rule, int64_t i) const {
    return internal::visible_keys(rule, i, sq, sk);
  }
};

/// Keys [first, first + count) of a sequence, copied for one kv head.
struct KeyTile {
  int64_t first = 0, count = 0;
  int64_t width = 0;          // count rounded up to kWidth: row length of the transposed copies
  float* keys_t = nullptr;    // [K, width]
  float* keys = nullptr;      // [count, key_width], backward only
  float* values_t = nullptr;  // [V, width], backward only
  float* values = nullptr;    // [count, value_width], forward only
};

/// Queries [first, first + count) of a sequence, all heads of kv head `group`.
struct QueryBlock {
  const SequenceSpan* sequence = nullptr;
  int64_t group = 0;
  int64_t first = 0, count = 0;
  const KeyTile* tiles = nullptr;  // of this sequence and kv head
  int64_t num_tiles = 0;
  int64_t tile_keys = 0;  // keys of every tile but the last
};

/// Sums a backward task owns: its part of the queries' share of dK, dV and the sinks' gradient.
struct BackwardPart {
  int64_t key_first = 0, key_count = 0;  // keys covered, from the start of a tile
  float* dk = nullptr;                   // [key_count padded to kBackwardTile, key_width]
  float* dv = nullptr;                   // [same, value_width]
  double* d_sinks = nullptr;             // [m] or null
};

/// Softmax state of decode rows over one chunk of keys: max and sum in powers of two, output not
/// yet divided by the sum.
struct DecodeState {
  float* max = nullptr;  // [rows]
  float* sum = nullptr;  // [rows]
  float* out = nullptr;  // [rows, value_width]
};

/// Floats of scratch memory one worker needs.
int64_t forward_scratch(const AttentionProblem& problem);
int64_t backward_scratch(const AttentionProblem& problem);
int64_t decode_scratch(const AttentionProblem& problem, int64_t rows);

/// Rows of the largest block.
inline int64_t block_rows(const AttentionProblem& problem) {
  return problem.group_heads >= kBlockRows
             ? round_up(problem.group_heads, kStrip)
             : round_up(kBlockRows / problem.group_heads * problem.group_heads, kStrip);
}

/// Fills whichever copies of `tile` have a place.
void pack_tile(const AttentionProblem& problem, const SequenceSpan& sequence, int64_t group,
               const KeyTile& tile);

/// out and lse of a block.
void forward_block(const AttentionProblem& problem, const QueryBlock& block, float* scratch);

/// dq of a block; adds its share of dk, dv and d_sinks.
void backward_block(const AttentionProblem& problem, const QueryBlock& block,
                    const BackwardPart& part, float* scratch);

/// State of all queries of a sequence and kv head over its keys [key_first, key_last).
void decode_chunk(const AttentionProblem& problem, const SequenceSpan& sequence, int64_t group,
                  internal::KeyRange keys, const DecodeState& state, float* scratch);

/// Merges `chunks` states, in order, into out and lse.
void decode_finish(const AttentionProblem& problem, const SequenceSpan& sequence, int64_t group,
                   const DecodeState* states, int64_t chunks);

/// Rows [0, rows) of sums of parts, scaled, to a [tokens, heads, channels] tensor. parts[p] points
/// to the first row or is null.
struct RowSum {
  const float* const* parts;
  int64_t num_parts;
  int64_t rows, channels, width;
  float factor;
};
void store_row_sums(Element element, const RowSum& sum, const HeadsView& to, int64_t row0,
                    int64_t head);

}  // namespace headway::ops::cpu
