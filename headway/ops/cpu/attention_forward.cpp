// Forward of the CPU attention on one block of queries. Not for: few queries on many keys
// (attention_decode.cpp), tensors, threads.
#include "headway/ops/cpu/attention_tiles.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "headway/ops/cpu/attention_forward.cpp"
#include <hwy/foreach_target.h>
// After foreach_target.
#include "headway/ops/cpu/attention_math-inl.h"
#include "headway/ops/cpu/attention_softmax-inl.h"

HWY_BEFORE_NAMESPACE();
namespace headway::ops::cpu {
namespace HWY_NAMESPACE {

struct ForwardScratch {
  float* q;       // [rows, key_width]
  float* out;     // [rows, value_width]
  float* scores;  // [kStrip, kForwardTile]
  float* max;     // [rows]
  float* sum;     // [rows]

  ForwardScratch(const AttentionProblem& p, float* memory) {
    const int64_t rows = block_rows(p);
    q = memory;
    out = q + rows * p.key_width;
    scores = out + rows * p.value_width;
    max = scores + kStrip * kForwardTile;
    sum = max + rows;
  }
  RowState row(const AttentionProblem& p, int64_t r) const {
    return {max + r, sum + r, out + r * p.value_width, p.value_width};
  }
};

/// One strip of queries on the keys of one tile that it sees.
HWY_INLINE void forward_strip(const AttentionProblem& p, const QueryBlock& block,
                              const KeyTile& tile, int64_t strip, const ForwardScratch& scratch) {
  const auto keys = within(strip_keys(p, block, strip), tile.first, tile.count);
  if (keys.last <= keys.first) return;
  const int64_t step = 2 * lanes();
  const internal::KeyRange columns{keys.first / step * step, round_up(keys.last, step)};
  const int64_t row0 = strip * kStrip;
  const Left queries{scratch.q + row0 * p.key_width, p.key_width, 1};
  multiply_strip<false>(columns.last - columns.first, p.key_dim, queries,
                        tile.keys_t + columns.first, tile.width, scratch.scores + columns.first,
                        kForwardTile);
  const int64_t rows = HWY_MIN(kStrip, block.count * p.group_heads - row0);
  for (int64_t r = 0; r < rows; ++r) {
    const int64_t token = block.first + (row0 + r) / p.group_heads;
    const auto visible = within(block.sequence->visible(p.rule, token), tile.first, tile.count);
    float* scores = scratch.scores + r * kForwardTile;
    softmax_row(scores, columns, visible, p.softcap, scratch.row(p, row0 + r));
    if (p.drops) {
      const DropRow drop(p, block.group * p.group_heads + (row0 + r) % p.group_heads,
                         block.sequence->q0 + token);
      drop_row(drop, scores, columns, block.sequence->k0 + tile.first + columns.first);
    }
  }
  const Left weights{scratch.scores + keys.first, kForwardTile, 1};
  multiply_strip<true>(p.value_width, keys.last - keys.first, weights,
                       tile.values + keys.first * p.value_width, p.value_width,
                       scratch.out + row0 * p.value_width, p.value_width);
}

void forward_block_simd(const AttentionProblem& p, const QueryBlock& block, float* memory) {
  const ForwardScratch scratch(p, memory);
  const int64_t m = p.group_heads, rows = block.count * m;
  load_queries(p, block, scratch.q);
  for (int64_t r = 0; r < rows; ++r) start_row(p, block.group * m + r % m, scratch.row(p, r));
  fill(scratch.out, rows * p.value_width, round_up(rows, kStrip) * p.value_width, 0.0f);
  const auto tiles = visible_tiles(p, block);
  for (int64_t t = tiles.first; t < tiles.last; ++t) {
    for (int64_t s = 0; s * kStrip < rows; ++s) forward_strip(p, block, block.tiles[t], s, scratch);
  }
  for (int64_t r = 0; r < rows; ++r) {
    finish_row(p, block.sequence->q0 + block.first + r / m, block.group * m + r % m,
               scratch.row(p, r));
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace headway::ops::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace headway::ops::cpu {

HWY_EXPORT(forward_block_simd);

int64_t forward_scratch(const AttentionProblem& p) {
  return block_rows(p) * (p.key_width + p.value_width + 2) + kStrip * kForwardTile;
}

void forward_block(const AttentionProblem& problem, const QueryBlock& block, float* scratch) {
  HWY_DYNAMIC_DISPATCH(forward_block_simd)(problem, block, scratch);
}

}  // namespace headway::ops::cpu
#endif
