// Backward of the CPU attention on one block of queries: weights are recomputed from lse.
// Not for: sums over blocks and tasks (attention_cpu.cpp).
#include <type_traits>

#include "headway/ops/cpu/attention_tiles.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "headway/ops/cpu/attention_backward.cpp"
#include <hwy/foreach_target.h>
// After foreach_target.
#include "headway/ops/cpu/attention_math-inl.h"
#include "headway/ops/cpu/attention_softmax-inl.h"

HWY_BEFORE_NAMESPACE();
namespace headway::ops::cpu {
namespace HWY_NAMESPACE {

// Row length of the score buffers: not a multiple of 4 KiB when walked down a column.
constexpr int64_t kScoreRow = kBackwardTile + 16;

struct BackwardScratch {
  float* q;         // [rows, key_width]
  float* d_out;     // [rows, value_width]
  float* dq;        // [rows, key_width]
  float* weights;   // [rows, kScoreRow]
  float* d_scores;  // [rows, kScoreRow]
  float* lse;       // [rows], log2; +inf where nothing is visible
  float* delta;     // [rows]
  float* out;       // [value_width]
  int32_t* ranges;  // [2 * strips], keys of the tile each strip sees

  BackwardScratch(const AttentionProblem& p, float* memory) {
    const int64_t rows = block_rows(p);
    q = memory;
    d_out = q + rows * p.key_width;
    dq = d_out + rows * p.value_width;
    weights = dq + rows * p.key_width;
    d_scores = weights + rows * kScoreRow;
    lse = d_scores + rows * kScoreRow;
    delta = lse + rows;
    out = delta + rows;
    ranges = reinterpret_cast<int32_t*>(out + p.value_width);
  }
};

HWY_INLINE float dot_rows(const float* a, const float* b, int64_t width) {
  const F d;
  Vec sum = hn::Zero(d);
  for (int64_t j = 0; j < width; j += lanes())
    sum = hn::MulAdd(hn::LoadU(d, a + j), hn::LoadU(d, b + j), sum);
  return hn::GetLane(hn::SumOfLanes(d, sum));
}

/// d_out, lse and delta = d_out · out of every row; adds the sinks' gradient.
HWY_INLINE void load_rows(const AttentionProblem& p, const QueryBlock& block,
                          const BackwardPart& part, const BackwardScratch& scratch) {
  const int64_t m = p.group_heads, rows = block.count * m;
  for (int64_t r = 0; r < rows; ++r) {
    const int64_t token = block.sequence->q0 + block.first + r / m, head = block.group * m + r % m;
    float* d_out = scratch.d_out + r * p.value_width;
    load_row(p.element, element_at(p.element, p.d_out, token, head), p.value_dim, 1.0f, d_out,
             p.value_width);
    load_row(p.element, element_at(p.element, p.out, token, head), p.value_dim, 1.0f, scratch.out,
             p.value_width);
    const float delta = dot_rows(d_out, scratch.out, p.value_width);
    const double lse = p.lse[head * p.tokens + token];
    scratch.delta[r] = delta;
    scratch.lse[r] = lse == kNegInf ? -kNegInf : static_cast<float>(lse / kLn2);
    if (part.d_sinks && p.sinks[head] != kNegInf) {
      part.d_sinks[r % m] -= std::exp(p.sinks[head] - lse) * delta;
    }
  }
  fill(scratch.d_out, rows * p.value_width, round_up(rows, kStrip) * p.value_width, 0.0f);
}

/// Drops nothing.
struct KeepRow {
  HWY_INLINE Vec kept(Vec value, int64_t) const { return value; }
};

/// What one row of a strip needs besides its scores.
struct RowFacts {
  float lse, delta;
  float softcap;
  float kept_factor;
  int64_t key;  // row of k of the first column
};

/// weights: scores -> exp2(score - lse), those dropped 0, the others times kept_factor;
/// d_scores: d_out·v -> exp2(score - lse) · (kept d_out·v - delta). Right only where visible.
template <bool kCapped, class Drop>
HWY_INLINE void backward_row(float* weights, float* d_scores, internal::KeyRange columns,
                             const RowFacts& facts, const Drop& drop) {
  constexpr bool kDrops = !std::is_same_v<Drop, KeepRow>;
  const F d;
  const Vec shift = hn::Set(d, facts.lse), mean = hn::Set(d, facts.delta);
  const Vec cap = hn::Set(d, facts.softcap * kLog2E), one = hn::Set(d, 1.0f);
  const Vec factor = hn::Set(d, facts.kept_factor);
  for (int64_t j = columns.first; j < columns.last; j += lanes()) {
    Vec score = hn::LoadU(d, weights + j);
    Vec d_weight = hn::LoadU(d, d_scores + j);
    const Vec kept =
        kDrops ? drop.kept(factor, facts.key + j - columns.first) : factor;  // 0 or the factor
    if constexpr (kDrops) d_weight = hn::Mul(d_weight, kept);
    Vec d_score = hn::Sub(d_weight, mean);
    if constexpr (kCapped) {
      const Vec tanh = hn::Tanh(d, score);
      score = hn::Mul(tanh, cap);
      d_score = hn::Mul(d_score, hn::NegMulAdd(tanh, tanh, one));
    }
    const Vec weight = exp2_fast(hn::Sub(score, shift));
    hn::StoreU(kDrops ? hn::Mul(weight, kept) : weight, d, weights + j);
    hn::StoreU(hn::Mul(weight, d_score), d, d_scores + j);
  }
}

template <class Drop>
HWY_INLINE void backward_row_any(float* weights, float* d_scores, internal::KeyRange columns,
                                 const RowFacts& facts, const Drop& drop) {
  if (facts.softcap > 0) return backward_row<true>(weights, d_scores, columns, facts, drop);
  backward_row<false>(weights, d_scores, columns, facts, drop);
}

/// Weights, d_scores and dq of one strip on one tile.
HWY_INLINE void backward_strip(const AttentionProblem& p, const QueryBlock& block,
                               const KeyTile& tile, int64_t strip, const BackwardScratch& scratch) {
  const internal::KeyRange keys{scratch.ranges[2 * strip], scratch.ranges[2 * strip + 1]};
  if (keys.last <= keys.first) return;
  const int64_t step = 2 * lanes(), row0 = strip * kStrip;
  const internal::KeyRange columns{keys.first / step * step, round_up(keys.last, step)};
  float* weights = scratch.weights + row0 * kScoreRow;
  float* d_scores = scratch.d_scores + row0 * kScoreRow;
  multiply_strip<false>(
      columns.last - columns.first, p.key_dim, Left{scratch.q + row0 * p.key_width, p.key_width, 1},
      tile.keys_t + columns.first, tile.width, weights + columns.first, kScoreRow);
  multiply_strip<false>(columns.last - columns.first, p.value_dim,
                        Left{scratch.d_out + row0 * p.value_width, p.value_width, 1},
                        tile.values_t + columns.first, tile.width, d_scores + columns.first,
                        kScoreRow);
  // The sums over rows below read whole groups of kStrip keys.
  const internal::KeyRange read{HWY_MIN(columns.first, keys.first / kStrip * kStrip),
                                HWY_MAX(columns.last, round_up(keys.last, kStrip))};
  for (int64_t r = 0; r < kStrip; ++r, weights += kScoreRow, d_scores += kScoreRow) {
    internal::KeyRange visible{0, 0};
    if (row0 + r < block.count * p.group_heads) {
      const int64_t token = block.first + (row0 + r) / p.group_heads;
      visible = within(block.sequence->visible(p.rule, token), tile.first, tile.count);
      const RowFacts facts{scratch.lse[row0 + r], scratch.delta[row0 + r], p.softcap, p.kept_factor,
                           block.sequence->k0 + tile.first + columns.first};
      if (p.drops) {
        const int64_t head = block.group * p.group_heads + (row0 + r) % p.group_heads;
        const DropRow drop(p, head, block.sequence->q0 + token);
        backward_row_any(weights, d_scores, columns, facts, drop);
      } else {
        backward_row_any(weights, d_scores, columns, facts, KeepRow());
      }
    }
    if (visible.last <= visible.first) visible = {read.first, read.first};
    for (float* row : {weights, d_scores}) {
      fill(row, read.first, visible.first, 0.0f);
      fill(row, visible.last, read.last, 0.0f);
    }
  }
  multiply_strip<true>(p.key_width, keys.last - keys.first,
                       Left{scratch.d_scores + row0 * kScoreRow + keys.first, kScoreRow, 1},
                       tile.keys + keys.first * p.key_width, p.key_width,
                       scratch.dq + row0 * p.key_width, p.key_width);
}

/// dk and dv of one tile: sums over the rows that see its keys.
HWY_INLINE void backward_keys(const AttentionProblem& p, const KeyTile& tile,
                              const BackwardPart& part, int64_t strips,
                              const BackwardScratch& scratch) {
  int64_t first = 0;
  for (int64_t j = 0; j < tile.count; j += kStrip) {
    while (first < strips && scratch.ranges[2 * first + 1] <= j) ++first;
    int64_t last = first;
    while (last < strips && scratch.ranges[2 * last] < HWY_MIN(j + kStrip, tile.count)) ++last;
    if (last == first) continue;
    const int64_t row0 = first * kStrip, depth = (last - first) * kStrip;
    const int64_t scores = row0 * kScoreRow + j, key = tile.first - part.key_first + j;
    multiply_strip<true>(p.value_width, depth, Left{scratch.weights + scores, 1, kScoreRow},
                         scratch.d_out + row0 * p.value_width, p.value_width,
                         part.dv + key * p.value_width, p.value_width);
    multiply_strip<true>(p.key_width, depth, Left{scratch.d_scores + scores, 1, kScoreRow},
                         scratch.q + row0 * p.key_width, p.key_width, part.dk + key * p.key_width,
                         p.key_width);
  }
}

void backward_block_simd(const AttentionProblem& p, const QueryBlock& block,
                         const BackwardPart& part, float* memory) {
  const BackwardScratch scratch(p, memory);
  const int64_t m = p.group_heads, rows = block.count * m;
  const int64_t strips = (rows + kStrip - 1) / kStrip;
  load_queries(p, block, scratch.q);
  load_rows(p, block, part, scratch);
  fill(scratch.dq, 0, strips * kStrip * p.key_width, 0.0f);
  const auto tiles = visible_tiles(p, block);
  for (int64_t t = tiles.first; t < tiles.last; ++t) {
    const KeyTile& tile = block.tiles[t];
    for (int64_t s = 0; s < strips; ++s) {
      const auto keys = within(strip_keys(p, block, s), tile.first, tile.count);
      scratch.ranges[2 * s] = static_cast<int32_t>(keys.first);
      scratch.ranges[2 * s + 1] = static_cast<int32_t>(HWY_MAX(keys.last, int64_t{0}));
      backward_strip(p, block, tile, s, scratch);
    }
    backward_keys(p, tile, part, strips, scratch);
  }
  for (int64_t r = 0; r < rows; ++r) {
    void* to = element_at(p.element, p.dq, block.sequence->q0 + block.first + r / m,
                          block.group * m + r % m);
    store_row(p.element, scratch.dq + r * p.key_width, p.key_dim, p.scale, to);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace headway::ops::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace headway::ops::cpu {

HWY_EXPORT(backward_block_simd);

int64_t backward_scratch(const AttentionProblem& p) {
  const int64_t rows = block_rows(p);
  return rows * (2 * p.key_width + p.value_width + 2 * (kBackwardTile + 16) + 2) + p.value_width +
         round_up(2 * (rows / kStrip), 16);
}

void backward_block(const AttentionProblem& problem, const QueryBlock& block,
                    const BackwardPart& part, float* scratch) {
  HWY_DYNAMIC_DISPATCH(backward_block_simd)(problem, block, part, scratch);
}

}  // namespace headway::ops::cpu
#endif
