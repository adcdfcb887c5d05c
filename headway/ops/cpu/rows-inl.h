// Inner loops of the row-wise ops, compiled once per Highway target: float32 and bfloat16 lanes,
// loops with tails, sums, the logistic function. Not for: anything outside cpu/*_kernels.cpp.
#if defined(HEADWAY_OPS_CPU_ROWS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef HEADWAY_OPS_CPU_ROWS_INL_H_
#undef HEADWAY_OPS_CPU_ROWS_INL_H_
#else
#define HEADWAY_OPS_CPU_ROWS_INL_H_
#endif

#include <cstdint>
#include <type_traits>

#include <hwy/contrib/math/math-inl.h>
#include <hwy/highway.h>

#include "headway/ops/cpu/element.h"

// A lambda of a loop over lanes: compiled for the target and always part of its loop.
#undef HEADWAY_LANES
#define HEADWAY_LANES HWY_ATTR __attribute__((always_inline))

HWY_BEFORE_NAMESPACE();
namespace headway::ops::cpu::rows {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

template <class D>
HWY_INLINE hn::Vec<D> load(D d, const float* from) {
  return hn::LoadU(d, from);
}

template <class D>
HWY_INLINE hn::Vec<D> load(D d, const BFloat16* from) {
  const hn::Rebind<uint16_t, D> narrow;
  const hn::Rebind<uint32_t, D> wide;
  const auto bits = hn::LoadU(narrow, reinterpret_cast<const uint16_t*>(from));
  return hn::BitCast(d, hn::ShiftLeft<16>(hn::PromoteTo(wide, bits)));
}

template <class D>
HWY_INLINE void store(D d, hn::Vec<D> value, float* to) {
  hn::StoreU(value, d, to);
}

/// Bits of `value` rounded to the nearest bfloat16, ties to even, in the low half of each lane.
template <class D>
HWY_INLINE hn::Vec<hn::Rebind<uint32_t, D>> bfloat16_bits(D d, hn::Vec<D> value) {
  const hn::Rebind<uint32_t, D> wide;
  const auto bits = hn::BitCast(wide, value);
  const auto odd = hn::And(hn::ShiftRight<16>(bits), hn::Set(wide, 1));
  const auto rounded = hn::Add(bits, hn::Add(odd, hn::Set(wide, 0x7FFF)));
  const auto not_a_number = hn::RebindMask(wide, hn::Ne(value, value));
  (void)d;
  return hn::IfThenElse(not_a_number, hn::Set(wide, 0x7FC0), hn::ShiftRight<16>(rounded));
}

template <class D>
HWY_INLINE void store(D d, hn::Vec<D> value, BFloat16* to) {
  const hn::Rebind<uint16_t, D> narrow;
  hn::StoreU(hn::TruncateTo(narrow, bfloat16_bits(d, value)), narrow,
             reinterpret_cast<uint16_t*>(to));
}

/// `value` as it reads after a store to T.
template <class T, class D>
HWY_INLINE hn::Vec<D> rounded_to(D d, hn::Vec<D> value) {
  if constexpr (std::is_same_v<T, float>) {
    return value;
  } else {
    return hn::BitCast(d, hn::ShiftLeft<16>(bfloat16_bits(d, value)));
  }
}

/// body(d, i) for i in [0, count) in steps of Lanes(d): whole vectors, then 4 lanes, then one.
template <class Body>
HWY_INLINE void for_lanes(int64_t count, const Body& body) {
  const hn::ScalableTag<float> full;
  const auto lanes = static_cast<int64_t>(hn::Lanes(full));
  int64_t i = 0;
  for (; i + lanes <= count; i += lanes) body(full, i);
  if constexpr (hn::MaxLanes(full) > 4) {
    const hn::CappedTag<float, 4> four;
    for (; i + 4 <= count; i += 4) body(four, i);
  }
  if constexpr (hn::MaxLanes(full) > 1) {
    const hn::CappedTag<float, 1> one;
    for (; i < count; ++i) body(one, i);
  }
}

/// Sum over i in [0, count) of term(d, i), which returns a vector.
template <class Term>
HWY_INLINE float sum_over(int64_t count, const Term& term) {
  const hn::ScalableTag<float> full;
  const auto lanes = static_cast<int64_t>(hn::Lanes(full));
  auto sum0 = hn::Zero(full), sum1 = sum0, sum2 = sum0, sum3 = sum0;
  int64_t i = 0;
  for (; i + 4 * lanes <= count; i += 4 * lanes) {
    sum0 = hn::Add(sum0, term(full, i));
    sum1 = hn::Add(sum1, term(full, i + lanes));
    sum2 = hn::Add(sum2, term(full, i + 2 * lanes));
    sum3 = hn::Add(sum3, term(full, i + 3 * lanes));
  }
  for (; i + lanes <= count; i += lanes) sum0 = hn::Add(sum0, term(full, i));
  sum0 = hn::Add(hn::Add(sum0, sum1), hn::Add(sum2, sum3));
  float sum = hn::GetLane(hn::SumOfLanes(full, sum0));
  if constexpr (hn::MaxLanes(full) > 4) {
    const hn::CappedTag<float, 4> four;
    auto rest = hn::Zero(four);
    if (i + 4 <= count) {
      for (; i + 4 <= count; i += 4) rest = hn::Add(rest, term(four, i));
      sum += hn::GetLane(hn::SumOfLanes(four, rest));
    }
  }
  if constexpr (hn::MaxLanes(full) > 1) {
    const hn::CappedTag<float, 1> one;
    for (; i < count; ++i) sum += hn::GetLane(term(one, i));
  }
  return sum;
}

/// e^x for x <= 0 to 2 ulp; 0 below -87, where float32 ends; exactly 1 at 0; NaN stays NaN.
template <class D>
HWY_INLINE hn::Vec<D> exp_of_negative(D d, hn::Vec<D> x) {
  const hn::Rebind<uint32_t, D> integers;
  const auto magic = hn::Set(d, 12582912.0f);  // 1.5·2^23: adding it rounds to an integer
  const auto shifted = hn::MulAdd(x, hn::Set(d, 1.44269504088896f), magic);
  const auto power = hn::Sub(shifted, magic);
  // x - power·ln 2 in two parts, the first exact for every power.
  auto f = hn::MulAdd(power, hn::Set(d, -0.693145751953125f), x);
  f = hn::MulAdd(power, hn::Set(d, -1.428606820309417e-6f), f);
  // 1 + f + f²·(…): relative error 3.1e-9 for |f| <= ln(2)/2.
  auto tail = hn::Set(d, 0.0013814462026360961f);
  tail = hn::MulAdd(tail, f, hn::Set(d, 0.0083687808831184463f));
  tail = hn::MulAdd(tail, f, hn::Set(d, 0.041668394316228414f));
  tail = hn::MulAdd(tail, f, hn::Set(d, 0.16666520102735961f));
  tail = hn::MulAdd(tail, f, hn::Set(d, 0.49999993411976546f));
  const auto y = hn::Add(hn::MulAdd(hn::Mul(f, f), tail, f), hn::Set(d, 1.0f));
  // The low bits of `shifted` are the power: add it to the exponent.
  const auto exponent = hn::ShiftLeft<23>(hn::BitCast(integers, shifted));
  const auto scaled = hn::BitCast(d, hn::Add(hn::BitCast(integers, y), exponent));
  return hn::IfThenZeroElse(hn::Lt(x, hn::Set(d, -87.0f)), scaled);
}

/// value = σ(x) and complement = 1 - σ(x), each to 3 ulp: no overflow, no cancellation.
/// Exactly 1/2 at 0 and 0 or 1 at ±1e4; NaN stays NaN.
template <class D>
struct Logistic {
  hn::Vec<D> value, complement;
};

template <class D>
HWY_INLINE Logistic<D> logistic(D d, hn::Vec<D> x) {
  const auto one = hn::Set(d, 1.0f);
  const auto small = exp_of_negative(d, hn::Neg(hn::Abs(x)));
  const auto upper = hn::Div(one, hn::Add(one, small));
  const auto lower = hn::Mul(small, upper);
  const auto negative = hn::Lt(x, hn::Zero(d));
  return {hn::IfThenElse(negative, lower, upper), hn::IfThenElse(negative, upper, lower)};
}

}  // namespace HWY_NAMESPACE
}  // namespace headway::ops::cpu::rows
HWY_AFTER_NAMESPACE();

#endif  // per target
