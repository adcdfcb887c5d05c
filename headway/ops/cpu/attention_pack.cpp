// Copies of keys and values in the layout of the inner loops, and the way back for their gradients.
// Not for: queries (each block copies its own).
#include "headway/ops/cpu/attention_tiles.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "headway/ops/cpu/attention_pack.cpp"
#include <hwy/foreach_target.h>
// After foreach_target.
#include "headway/ops/cpu/attention_math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace headway::ops::cpu {
namespace HWY_NAMESPACE {

constexpr int64_t kChunk = 64;  // channels handled at a time, so that buffers live on the stack

/// to[c * width + j] = rows[j][c] for 4 rows and `count` channels (readable to a multiple of 4).
HWY_INLINE void transpose_four(const float (*rows)[kChunk], int64_t count, float* to,
                               int64_t width) {
  int64_t c = 0;
#if HWY_TARGET != HWY_SCALAR
  const hn::FixedTag<float, 4> d;
  const hn::RepartitionToWide<decltype(d)> dw;
  for (; c + 4 <= count; c += 4) {
    const auto a = hn::Load(d, rows[0] + c), b = hn::Load(d, rows[1] + c);
    const auto e = hn::Load(d, rows[2] + c), f = hn::Load(d, rows[3] + c);
    const auto ab0 = hn::BitCast(dw, hn::InterleaveLower(d, a, b));
    const auto ab1 = hn::BitCast(dw, hn::InterleaveUpper(d, a, b));
    const auto ef0 = hn::BitCast(dw, hn::InterleaveLower(d, e, f));
    const auto ef1 = hn::BitCast(dw, hn::InterleaveUpper(d, e, f));
    hn::StoreU(hn::BitCast(d, hn::InterleaveLower(dw, ab0, ef0)), d, to + c * width);
    hn::StoreU(hn::BitCast(d, hn::InterleaveUpper(dw, ab0, ef0)), d, to + (c + 1) * width);
    hn::StoreU(hn::BitCast(d, hn::InterleaveLower(dw, ab1, ef1)), d, to + (c + 2) * width);
    hn::StoreU(hn::BitCast(d, hn::InterleaveUpper(dw, ab1, ef1)), d, to + (c + 3) * width);
  }
#endif
  for (; c < count; ++c) {
    for (int64_t j = 0; j < 4; ++j) to[c * width + j] = rows[j][c];
  }
}

struct PackSource {
  const AttentionProblem& p;
  const SequenceSpan& sequence;
  const HeadsView& view;
  int64_t first, head, count, dim;

  HWY_INLINE const void* at(int64_t j, int64_t c) const {
    return static_cast<const char*>(key_at(p, sequence, view, first + j, head)) +
           c * (p.element == Element::kFloat ? 4 : 2);
  }
};

HWY_INLINE void pack_transposed(const PackSource& from, float* to, int64_t width) {
  HWY_ALIGN float rows[4][kChunk];
  for (int64_t c = 0; c < from.dim; c += kChunk) {
    const int64_t channels = HWY_MIN(kChunk, from.dim - c);
    for (int64_t j = 0; j < from.count; j += 4) {
      for (int64_t i = 0; i < 4; ++i) {
        if (j + i < from.count) {
          load_row(from.p.element, from.at(j + i, c), channels, 1.0f, rows[i], channels);
        } else {
          fill(rows[i], 0, channels, 0.0f);
        }
      }
      transpose_four(rows, channels, to + c * width + j, width);
    }
    for (int64_t i = 0; i < channels; ++i)
      fill(to + (c + i) * width, round_up(from.count, 4), width, 0.0f);
  }
}

HWY_INLINE void pack_rows(const PackSource& from, float* to, int64_t width) {
  for (int64_t j = 0; j < from.count; ++j) {
    load_row(from.p.element, from.at(j, 0), from.dim, 1.0f, to + j * width, width);
  }
}

void pack_tile_simd(const AttentionProblem& p, const SequenceSpan& sequence, int64_t group,
                    const KeyTile& tile) {
  const PackSource keys{p, sequence, p.k, tile.first, group, tile.count, p.key_dim};
  const PackSource values{p, sequence, p.v, tile.first, group, tile.count, p.value_dim};
  if (tile.keys_t) pack_transposed(keys, tile.keys_t, tile.width);
  if (tile.keys) pack_rows(keys, tile.keys, p.key_width);
  if (tile.values_t) pack_transposed(values, tile.values_t, tile.width);
  if (tile.values) pack_rows(values, tile.values, p.value_width);
}

void store_row_sums_simd(Element element, const RowSum& sum, const HeadsView& to, int64_t row0,
                         int64_t head) {
  const F d;
  HWY_ALIGN float total[kChunk];
  for (int64_t j = 0; j < sum.rows; ++j) {
    char* out = static_cast<char*>(element_at(element, to, row0 + j, head));
    for (int64_t c = 0; c < sum.channels; c += kChunk) {
      const int64_t width = HWY_MIN(kChunk, sum.width - c);
      fill(total, 0, width, 0.0f);
      for (int64_t part = 0; part < sum.num_parts; ++part) {
        if (!sum.parts[part]) continue;
        const float* row = sum.parts[part] + j * sum.width + c;
        for (int64_t i = 0; i < width; i += lanes()) {
          hn::StoreU(hn::Add(hn::LoadU(d, total + i), hn::LoadU(d, row + i)), d, total + i);
        }
      }
      store_row(element, total, HWY_MIN(width, sum.channels - c), sum.factor,
                out + c * (element == Element::kFloat ? 4 : 2));
    }
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace headway::ops::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace headway::ops::cpu {

HWY_EXPORT(pack_tile_simd);
HWY_EXPORT(store_row_sums_simd);

void pack_tile(const AttentionProblem& problem, const SequenceSpan& sequence, int64_t group,
               const KeyTile& tile) {
  HWY_DYNAMIC_DISPATCH(pack_tile_simd)(problem, sequence, group, tile);
}

void store_row_sums(Element element, const RowSum& sum, const HeadsView& to, int64_t row0,
                    int64_t head) {
  HWY_DYNAMIC_DISPATCH(store_row_sums_simd)(element, sum, to, row0, head);
}

}  // namespace headway::ops::cpu
#endif
