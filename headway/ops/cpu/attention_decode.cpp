// CPU attention of few queries on many keys: streams K and V once for all heads that share them,
// without copies. Not for: training shapes (attention_forward.cpp).
#include "headway/ops/cpu/attention_tiles.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "headway/ops/cpu/attention_decode.cpp"
#include <hwy/foreach_target.h>
// After foreach_target.
#include "headway/ops/cpu/attention_math-inl.h"
#include "headway/ops/cpu/attention_softmax-inl.h"

HWY_BEFORE_NAMESPACE();
namespace headway::ops::cpu {
namespace HWY_NAMESPACE {

constexpr int64_t kDecodeTile = 64;  // keys between two updates of the softmax state
constexpr int64_t kBatch = 4;        // rows that share one load of a key

struct DecodeScratch {
  float* q;       // [rows, key_width]
  float* scores;  // [rows, kDecodeTile]
  float* keys;    // [kDecodeTile, key_width], where a direct read is not possible
  float* values;  // [kDecodeTile, value_width]

  DecodeScratch(const AttentionProblem& p, int64_t rows, float* memory) {
    q = memory;
    scores = q + round_up(rows, kStrip) * p.key_width;
    keys = scores + rows * kDecodeTile;
    values = keys + kDecodeTile * p.key_width;
  }
};

/// Rows of keys or values as floats in whole vectors.
struct Rows {
  const float* data;
  int64_t stride;
};

/// Keys or values of one kv head: `count` of a sequence from `first`, all in one page.
struct RowSource {
  const AttentionProblem& p;
  const SequenceSpan& sequence;
  const HeadsView& view;
  int64_t dim, head;

  /// Reads in place if the rows are whole vectors of floats, else through `buffer`.
  HWY_INLINE Rows rows(int64_t first, int64_t count, float* buffer) const {
    const void* front = key_at(p, sequence, view, first, head);
    if (p.element == Element::kFloat && dim % lanes() == 0) {
      return {static_cast<const float*>(front), view.row};
    }
    const int64_t width = round_up(dim, 16);
    const HeadsView page{const_cast<void*>(front), view.row, 0};
    for (int64_t j = 0; j < count; ++j) {
      load_row(p.element, element_at(p.element, page, j, 0), dim, 1.0f, buffer + j * width, width);
    }
    return {buffer, width};
  }
};

/// scores[r][j] = q[r] · k[j] for kRows rows.
template <int kRows>
HWY_INLINE void dots(const float* q, int64_t q_row, Rows keys, int64_t width, int64_t count,
                     float* scores) {
  const F d;
  const int64_t n = lanes();
  for (int64_t j = 0; j < count; ++j) {
    const float* key = keys.data + j * keys.stride;
    Vec sum[kRows];
    for (int r = 0; r < kRows; ++r) sum[r] = hn::Zero(d);
    for (int64_t c = 0; c < width; c += n) {
      const Vec k = hn::LoadU(d, key + c);
      for (int r = 0; r < kRows; ++r)
        sum[r] = hn::MulAdd(hn::LoadU(d, q + r * q_row + c), k, sum[r]);
    }
    for (int r = 0; r < kRows; ++r)
      scores[r * kDecodeTile + j] = hn::GetLane(hn::SumOfLanes(d, sum[r]));
  }
}

/// out[r] += sum_j weights[r][j] v[j] for kRows rows.
template <int kRows>
HWY_INLINE void add_values(const float* weights, Rows values, int64_t width, int64_t count,
                           float* out, int64_t out_row) {
  const int64_t n = lanes();
  const Left left{weights, kDecodeTile, 1};
  int64_t c = 0;
  for (; c + 2 * n <= width; c += 2 * n) {
    register_tile<kRows, 2, true>(count, left, values.data + c, values.stride, out + c, out_row);
  }
  for (; c < width; c += n) {
    register_tile<kRows, 1, true>(count, left, values.data + c, values.stride, out + c, out_row);
  }
}

/// Calls body.template operator()<R>(first row) for batches of R rows.
template <class Body>
HWY_INLINE void for_batches(int64_t rows, Body body) {
  int64_t r = 0;
  for (; r + kBatch <= rows; r += kBatch) body.template operator()<kBatch>(r);
  switch (rows - r) {
    case 3:
      return body.template operator()<3>(r);
    case 2:
      return body.template operator()<2>(r);
    case 1:
      return body.template operator()<1>(r);
  }
}

struct ScoreBatch {
  const AttentionProblem& p;
  const DecodeScratch& scratch;
  Rows keys;
  int64_t offset, count;  // within the tile
  template <int kRows>
  HWY_INLINE void operator()(int64_t r) const {
    dots<kRows>(scratch.q + r * p.key_width, p.key_width, keys, round_up(p.key_dim, lanes()), count,
                scratch.scores + r * kDecodeTile + offset);
  }
};

struct ValueBatch {
  const AttentionProblem& p;
  const DecodeScratch& scratch;
  Rows values;
  int64_t offset, count;  // within the tile
  float* out;
  template <int kRows>
  HWY_INLINE void operator()(int64_t r) const {
    add_values<kRows>(scratch.scores + r * kDecodeTile + offset, values,
                      round_up(p.value_dim, lanes()), count, out + r * p.value_width,
                      p.value_width);
  }
};

HWY_INLINE RowState row_state(const AttentionProblem& p, const DecodeState& state, int64_t r) {
  return {state.max + r, state.sum + r, state.out + r * p.value_width, p.value_width};
}

void decode_chunk_simd(const AttentionProblem& p, const SequenceSpan& sequence, int64_t group,
                       internal::KeyRange keys, const DecodeState& state, float* memory) {
  const int64_t m = p.group_heads, rows = sequence.sq * m;
  const DecodeScratch scratch(p, rows, memory);
  QueryBlock block;
  block.sequence = &sequence;
  block.group = group;
  block.count = sequence.sq;
  load_queries(p, block, scratch.q);
  for (int64_t r = 0; r < rows; ++r) {
    state.max[r] = kNegInf;
    state.sum[r] = 0.0f;
  }
  fill(state.out, 0, rows * p.value_width, 0.0f);
  const RowSource k{p, sequence, p.k, p.key_dim, group};
  const RowSource v{p, sequence, p.v, p.value_dim, group};
  for (int64_t first = keys.first; first < keys.last; first += kDecodeTile) {
    const int64_t count = HWY_MIN(kDecodeTile, keys.last - first), last = first + count;
    for (int64_t j = first, run = 0; j < last; j += run) {
      run = run_length(p, sequence, j, last);
      for_batches(rows, ScoreBatch{p, scratch, k.rows(j, run, scratch.keys), j - first, run});
    }
    for (int64_t r = 0; r < rows; ++r) {
      const auto visible = within(sequence.visible(p.rule, r / m), first, count);
      softmax_row(scratch.scores + r * kDecodeTile, {0, round_up(count, lanes())}, visible,
                  p.softcap, row_state(p, state, r));
      if (p.drops) {
        const DropRow drop(p, group * m + r % m, sequence.q0 + r / m);
        drop_row(drop, scratch.scores + r * kDecodeTile, {0, round_up(count, lanes())},
                 sequence.k0 + first);
      }
    }
    for (int64_t j = first, run = 0; j < last; j += run) {
      run = run_length(p, sequence, j, last);
      for_batches(
          rows, ValueBatch{p, scratch, v.rows(j, run, scratch.values), j - first, run, state.out});
    }
  }
}

void decode_finish_simd(const AttentionProblem& p, const SequenceSpan& sequence, int64_t group,
                        const DecodeState* states, int64_t chunks) {
  const F d;
  const int64_t m = p.group_heads;
  for (int64_t r = 0; r < sequence.sq * m; ++r) {
    const int64_t head = group * m + r % m;
    const float sink = p.sinks ? p.sinks[head] * kLog2E : kNegInf;
    float max = sink;
    for (int64_t c = 0; c < chunks; ++c) max = HWY_MAX(max, states[c].max[r]);
    // The first state becomes the total.
    const RowState total = row_state(p, states[0], r);
    float sum = sink == kNegInf ? 0.0f : exp2_one(sink - max);
    for (int64_t c = 0; c < chunks; ++c) {
      const float weight = states[c].max[r] == kNegInf ? 0.0f : exp2_one(states[c].max[r] - max);
      sum += states[c].sum[r] * weight;
      const float* out = states[c].out + r * p.value_width;
      for (int64_t j = 0; j < p.value_width; j += lanes()) {
        const Vec scaled = hn::Mul(hn::LoadU(d, out + j), hn::Set(d, weight));
        const Vec before = c == 0 ? hn::Zero(d) : hn::LoadU(d, total.out + j);
        hn::StoreU(hn::Add(before, scaled), d, total.out + j);
      }
    }
    *total.max = max;
    *total.sum = sum;
    finish_row(p, sequence.q0 + r / m, head, total);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace headway::ops::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace headway::ops::cpu {

HWY_EXPORT(decode_chunk_simd);
HWY_EXPORT(decode_finish_simd);

int64_t decode_scratch(const AttentionProblem& p, int64_t rows) {
  return round_up(rows, kStrip) * p.key_width + rows * 64 + 64 * (p.key_width + p.value_width);
}

void decode_chunk(const AttentionProblem& problem, const SequenceSpan& sequence, int64_t group,
                  internal::KeyRange keys, const DecodeState& state, float* scratch) {
  HWY_DYNAMIC_DISPATCH(decode_chunk_simd)(problem, sequence, group, keys, state, scratch);
}

void decode_finish(const AttentionProblem& problem, const SequenceSpan& sequence, int64_t group,
                   const DecodeState* states, int64_t chunks) {
  HWY_DYNAMIC_DISPATCH(decode_finish_simd)(problem, sequence, group, states, chunks);
}

}  // namespace headway::ops::cpu
#endif
