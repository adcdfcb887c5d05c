// Rotary position embedding by Highway, one pass. Not for: threads (cpu/rope.cpp).
#include "headway/ops/cpu/rope_kernels.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "headway/ops/cpu/rope_kernels.cpp"
#include <hwy/foreach_target.h>
// After foreach_target.
#include <cstring>

#include "headway/ops/cpu/rows-inl.h"

HWY_BEFORE_NAMESPACE();
namespace headway::ops::cpu {
namespace HWY_NAMESPACE {
using namespace rows::HWY_NAMESPACE;  // NOLINT: the lanes of this target

template <class D>
struct Pair {
  hn::Vec<D> a, b;
};

/// Pairs i, i+1, … of channels (2i, 2i+1).
template <class D>
HWY_INLINE Pair<D> load_pairs(D d, const float* from) {
  Pair<D> pair;
  hn::LoadInterleaved2(d, from, pair.a, pair.b);
  return pair;
}

template <class D>
HWY_INLINE void store_pairs(D d, const Pair<D>& pair, float* to) {
  hn::StoreInterleaved2(pair.a, pair.b, d, to);
}

/// Two bfloat16 are one 32-bit lane: a in its low half, b in its high half. A single pair goes by
/// its elements, as it may lie at an odd one.
template <class D>
HWY_INLINE Pair<D> load_pairs(D d, const BFloat16* from) {
  if constexpr (hn::MaxLanes(d) == 1) {
    return {load(d, from), load(d, from + 1)};
  } else {
    const hn::Rebind<uint32_t, D> wide;
    const hn::Repartition<uint16_t, decltype(wide)> narrow;
    const auto both = hn::BitCast(wide, hn::LoadU(narrow, reinterpret_cast<const uint16_t*>(from)));
    return {hn::BitCast(d, hn::ShiftLeft<16>(both)),
            hn::BitCast(d, hn::And(both, hn::Set(wide, 0xFFFF0000u)))};
  }
}

template <class D>
HWY_INLINE void store_pairs(D d, const Pair<D>& pair, BFloat16* to) {
  if constexpr (hn::MaxLanes(d) == 1) {
    store(d, pair.a, to);
    store(d, pair.b, to + 1);
  } else {
    const hn::Rebind<uint32_t, D> wide;
    const hn::Repartition<uint16_t, decltype(wide)> narrow;
    const auto both = hn::Or(bfloat16_bits(d, pair.a), hn::ShiftLeft<16>(bfloat16_bits(d, pair.b)));
    hn::StoreU(hn::BitCast(narrow, both), narrow, reinterpret_cast<uint16_t*>(to));
  }
}

/// The turn of one token: y_a = a·cos - b·sin, y_b = b·cos + a·sin; sin negated by `sign`.
struct Turn {
  const float *cos, *sin;
  float sign;
  int64_t pairs;
};

template <bool kInterleaved, class T>
HWY_INLINE void turn_head(const Turn& turn, const T* x, T* y) {
  const Turn held = turn;
  for_lanes(held.pairs, [=](auto d, int64_t i) HEADWAY_LANES {
    using D = decltype(d);
    Pair<D> in;
    if constexpr (kInterleaved) {
      in = load_pairs(d, x + 2 * i);
    } else {
      in = {load(d, x + i), load(d, x + i + held.pairs)};
    }
    const auto cos = hn::LoadU(d, held.cos + i);
    const auto sin = hn::Mul(hn::LoadU(d, held.sin + i), hn::Set(d, held.sign));
    const Pair<D> out{hn::NegMulAdd(in.b, sin, hn::Mul(in.a, cos)),
                      hn::MulAdd(in.a, sin, hn::Mul(in.b, cos))};
    if constexpr (kInterleaved) {
      store_pairs(d, out, y + 2 * i);
    } else {
      store(d, out.a, y + i);
      store(d, out.b, y + i + held.pairs);
    }
  });
}

template <bool kInterleaved, class T>
HWY_INLINE void turn_tokens(const RopeRows& rows, int64_t begin, int64_t end) {
  const int64_t untouched = rows.channels - 2 * rows.pairs;
  for (int64_t token = begin; token < end; ++token) {
    const int64_t place = rows.positions[token] * rows.pairs;
    const Turn turn{rows.cos + place, rows.sin + place, rows.inverse ? -1.0f : 1.0f, rows.pairs};
    const T* x = static_cast<const T*>(rows.x) + token * rows.token_stride;
    T* y = static_cast<T*>(rows.y) + token * rows.heads * rows.channels;
    for (int64_t head = 0; head < rows.heads; ++head) {
      turn_head<kInterleaved>(turn, x, y);
      if (untouched > 0) {
        std::memcpy(y + 2 * rows.pairs, x + 2 * rows.pairs, untouched * sizeof(T));
      }
      x += rows.head_stride;
      y += rows.channels;
    }
  }
}

void run_tokens(const RopeRows& rows, int64_t begin, int64_t end) {
  if (rows.element == Element::kFloat) {
    if (rows.interleaved) return turn_tokens<true, float>(rows, begin, end);
    return turn_tokens<false, float>(rows, begin, end);
  }
  if (rows.interleaved) return turn_tokens<true, BFloat16>(rows, begin, end);
  return turn_tokens<false, BFloat16>(rows, begin, end);
}

}  // namespace HWY_NAMESPACE
}  // namespace headway::ops::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace headway::ops::cpu {

HWY_EXPORT(run_tokens);

void rope_tokens(const RopeRows& rows, int64_t begin, int64_t end) {
  HWY_DYNAMIC_DISPATCH(run_tokens)(rows, begin, end);
}

}  // namespace headway::ops::cpu
#endif
