// Inner loops of the CPU attention, compiled once per Highway target: register tile of a matrix
// product, powers of two, copies with conversion. Not for: anything outside attention_*.cpp.
#if defined(HEADWAY_OPS_CPU_ATTENTION_MATH_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef HEADWAY_OPS_CPU_ATTENTION_MATH_INL_H_
#undef HEADWAY_OPS_CPU_ATTENTION_MATH_INL_H_
#else
#define HEADWAY_OPS_CPU_ATTENTION_MATH_INL_H_
#endif

#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>

#include <hwy/highway.h>

#include "headway/ops/cpu/attention_tiles.h"

HWY_BEFORE_NAMESPACE();
namespace headway::ops::cpu {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using F = hn::ScalableTag<float>;
using Vec = hn::Vec<F>;

constexpr float kNegInf = -std::numeric_limits<float>::infinity();

// Rows of the register tile: 2 vectors x 12 rows fill 32 registers, x 6 rows fill 16.
#if HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_AVX3_DL || HWY_ARCH_ARM_A64
constexpr int64_t kTileRows = 12;
#else
constexpr int64_t kTileRows = 6;
#endif
static_assert(kStrip % kTileRows == 0 && kForwardTile % kStrip == 0 && kBackwardTile % kStrip == 0);

HWY_INLINE int64_t lanes() { return static_cast<int64_t>(hn::Lanes(F())); }

/// Left factor of a product: element (i, k) at data[i * row + k * step].
struct Left {
  const float* data;
  int64_t row;
  int64_t step;
};

/// C[rows, vectors] (+)= A[rows, depth] · B[depth, vectors]; b and c have row lengths ldb and ldc.
template <int kRows, int kVectors, bool kAdd>
HWY_INLINE void register_tile(int64_t depth, Left a, const float* HWY_RESTRICT b, int64_t ldb,
                              float* HWY_RESTRICT c, int64_t ldc) {
  const F d;
  const int64_t n = lanes();
  Vec sum[kRows][kVectors];
  for (int i = 0; i < kRows; ++i) {
    for (int j = 0; j < kVectors; ++j) {
      sum[i][j] = kAdd ? hn::LoadU(d, c + i * ldc + j * n) : hn::Zero(d);
    }
  }
  for (int64_t k = 0; k < depth; ++k) {
    Vec right[kVectors];
    for (int j = 0; j < kVectors; ++j) right[j] = hn::LoadU(d, b + k * ldb + j * n);
    for (int i = 0; i < kRows; ++i) {
      const Vec left = hn::Set(d, a.data[i * a.row + k * a.step]);
      for (int j = 0; j < kVectors; ++j) sum[i][j] = hn::MulAdd(left, right[j], sum[i][j]);
    }
  }
  for (int i = 0; i < kRows; ++i) {
    for (int j = 0; j < kVectors; ++j) hn::StoreU(sum[i][j], d, c + i * ldc + j * n);
  }
}

/// The same for any number of columns that is a multiple of the vector length, kStrip rows.
template <bool kAdd>
HWY_INLINE void multiply_strip(int64_t columns, int64_t depth, Left a, const float* b, int64_t ldb,
                               float* c, int64_t ldc) {
  const int64_t n = lanes();
  for (int64_t i = 0; i < kStrip; i += kTileRows) {
    const Left rows{a.data + i * a.row, a.row, a.step};
    int64_t j = 0;
    for (; j + 2 * n <= columns; j += 2 * n) {
      register_tile<kTileRows, 2, kAdd>(depth, rows, b + j, ldb, c + i * ldc + j, ldc);
    }
    for (; j < columns; j += n) {
      register_tile<kTileRows, 1, kAdd>(depth, rows, b + j, ldb, c + i * ldc + j, ldc);
    }
  }
}

/// 2^x to 2 ulp for x < 127; exactly 0 below -126, so that hidden keys (-inf) weigh nothing.
HWY_INLINE Vec exp2_fast(Vec x) {
  const F d;
  const hn::RebindToSigned<F> di;
  const Vec magic = hn::Set(d, 12582912.0f);  // 1.5 * 2^23: adding it rounds to an integer
  const Vec shifted = hn::Add(x, magic);
  const Vec f = hn::Sub(x, hn::Sub(shifted, magic));
  // Minimax on [-0.5, 0.5] with value 1 at 0, relative error 2.6e-9.
  Vec y = hn::Set(d, 1.5594677549532598e-4f);
  y = hn::MulAdd(y, f, hn::Set(d, 1.340664390505534e-3f));
  y = hn::MulAdd(y, f, hn::Set(d, 9.617692974890497e-3f));
  y = hn::MulAdd(y, f, hn::Set(d, 5.5503105509957955e-2f));
  y = hn::MulAdd(y, f, hn::Set(d, 0.24022652782876092f));
  y = hn::MulAdd(y, f, hn::Set(d, 0.6931472149680394f));
  y = hn::MulAdd(y, f, hn::Set(d, 1.0f));
  const auto exponent = hn::ShiftLeft<23>(hn::BitCast(di, shifted));
  const Vec power = hn::BitCast(d, hn::Add(hn::BitCast(di, y), exponent));
  return hn::IfThenZeroElse(hn::Lt(x, hn::Set(d, -126.0f)), power);
}

/// Puts `value` in [first, last) of a row.
HWY_INLINE void fill(float* row, int64_t first, int64_t last, float value) {
  for (int64_t j = first; j < last; ++j) row[j] = value;
}

HWY_INLINE Vec load_element(F d, const float* from) { return hn::LoadU(d, from); }
template <class T>
HWY_INLINE Vec load_element(F d, const T* from) {
  return hn::PromoteTo(d, hn::LoadU(hn::Rebind<T, F>(), from));
}

/// Copies `count` elements times `factor` to float, zeros up to `width`.
template <class T>
HWY_INLINE void load_row_of(const T* from, int64_t count, float factor, float* to, int64_t width) {
  const F d;
  const int64_t n = lanes();
  const Vec scale = hn::Set(d, factor);
  int64_t j = 0;
  for (; j + n <= count; j += n) hn::StoreU(hn::Mul(load_element(d, from + j), scale), d, to + j);
  if (j < count) {
    HWY_ALIGN T tail[HWY_MAX_BYTES / sizeof(float)] = {};
    std::memcpy(tail, from + j, static_cast<size_t>(count - j) * sizeof(T));
    HWY_ALIGN float wide[HWY_MAX_BYTES / sizeof(float)];
    hn::StoreU(hn::Mul(load_element(d, tail), scale), d, wide);
    for (; j < count; ++j) to[j] = wide[j % n];
  }
  fill(to, count, width, 0.0f);
}

HWY_INLINE void* element_at(Element element, const HeadsView& view, int64_t row, int64_t head) {
  const int64_t offset = row * view.row + head * view.head;
  const int64_t size = element == Element::kFloat ? 4 : 2;
  return static_cast<char*>(view.data) + offset * size;
}

/// Key or value `j` of a sequence, through its pages if it has any.
HWY_INLINE const void* key_at(const AttentionProblem& p, const SequenceSpan& sequence,
                              const HeadsView& view, int64_t j, int64_t head) {
  if (!sequence.pages) return element_at(p.element, view, sequence.k0 + j, head);
  HeadsView page = view;
  page.data = element_at(p.element, {view.data, view.page, 0}, sequence.pages[j / p.page_rows], 0);
  return element_at(p.element, page, j % p.page_rows, head);
}

/// Keys of [first, last) that follow `first` at equal strides.
HWY_INLINE int64_t run_length(const AttentionProblem& p, const SequenceSpan& sequence,
                              int64_t first, int64_t last) {
  if (!sequence.pages) return last - first;
  return HWY_MIN(last - first, p.page_rows - first % p.page_rows);
}

HWY_INLINE void load_row(Element element, const void* from, int64_t count, float factor, float* to,
                         int64_t width) {
  switch (element) {
    case Element::kFloat:
      return load_row_of(static_cast<const float*>(from), count, factor, to, width);
    case Element::kBFloat16:
      return load_row_of(static_cast<const hwy::bfloat16_t*>(from), count, factor, to, width);
    case Element::kHalf:
      return load_row_of(static_cast<const hwy::float16_t*>(from), count, factor, to, width);
  }
}

/// Round to nearest even; Highway 1.0.3 truncates.
HWY_INLINE uint16_t to_bfloat16(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof(bits));
  if (value != value) return static_cast<uint16_t>((bits >> 16) | 0x40);
  return static_cast<uint16_t>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

/// Stores `count` floats times `factor` as `element`; `from` is readable to a whole vector.
HWY_INLINE void store_row(Element element, const float* from, int64_t count, float factor,
                          void* to) {
  const F d;
  const int64_t n = lanes();
  if (element == Element::kFloat) {
    float* out = static_cast<float*>(to);
    int64_t j = 0;
    for (; j + n <= count; j += n) {
      hn::StoreU(hn::Mul(hn::LoadU(d, from + j), hn::Set(d, factor)), d, out + j);
    }
    for (; j < count; ++j) out[j] = from[j] * factor;
  } else if (element == Element::kBFloat16) {
    uint16_t* out = static_cast<uint16_t*>(to);
    for (int64_t j = 0; j < count; ++j) out[j] = to_bfloat16(from[j] * factor);
  } else {
    const hn::Rebind<hwy::float16_t, F> dh;
    hwy::float16_t* out = static_cast<hwy::float16_t*>(to);
    HWY_ALIGN hwy::float16_t part[HWY_MAX_BYTES / sizeof(float)];
    for (int64_t j = 0; j < count; j += n) {
      const Vec value = hn::Mul(hn::LoadU(d, from + j), hn::Set(d, factor));
      hn::StoreU(hn::DemoteTo(dh, value), dh, part);
      std::memcpy(out + j, part, static_cast<size_t>(HWY_MIN(n, count - j)) * 2);
    }
  }
}

/// Rows of a block or of decode queries, scaled by query_factor, zeros in padding rows.
HWY_INLINE void load_queries(const AttentionProblem& p, const QueryBlock& block, float* to) {
  const int64_t m = p.group_heads;
  for (int64_t i = 0; i < block.count; ++i) {
    for (int64_t h = 0; h < m; ++h) {
      const void* row =
          element_at(p.element, p.q, block.sequence->q0 + block.first + i, block.group * m + h);
      load_row(p.element, row, p.key_dim, p.query_factor(), to + (i * m + h) * p.key_width,
               p.key_width);
    }
  }
  const int64_t rows = block.count * m;
  fill(to, rows * p.key_width, round_up(rows, kStrip) * p.key_width, 0.0f);
}

/// Keys that some row of strip `s` sees.
HWY_INLINE internal::KeyRange strip_keys(const AttentionProblem& p, const QueryBlock& block,
                                         int64_t s) {
  const int64_t last = block.count - 1;
  const int64_t from = HWY_MIN(s * kStrip / p.group_heads, last);
  const int64_t to = HWY_MIN((s * kStrip + kStrip - 1) / p.group_heads, last);
  return {block.sequence->visible(p.rule, block.first + from).first,
          block.sequence->visible(p.rule, block.first + to).last};
}

/// `keys` counted from the start of `tile` and cut to it.
HWY_INLINE internal::KeyRange within(internal::KeyRange keys, int64_t first, int64_t count) {
  return {HWY_MAX(keys.first - first, int64_t{0}), HWY_MIN(keys.last - first, count)};
}

/// Tiles of a block that its rows see: [first, last).
HWY_INLINE internal::KeyRange visible_tiles(const AttentionProblem& p, const QueryBlock& block) {
  const int64_t first = block.sequence->visible(p.rule, block.first).first;
  const int64_t last = block.sequence->visible(p.rule, block.first + block.count - 1).last;
  if (last <= first) return {0, 0};
  const int64_t origin = block.sequence->key_first;
  return {(first - origin) / block.tile_keys, (last - 1 - origin) / block.tile_keys + 1};
}

}  // namespace HWY_NAMESPACE
}  // namespace headway::ops::cpu
HWY_AFTER_NAMESPACE();

#endif  // HEADWAY_OPS_CPU_ATTENTION_MATH_INL_H_
