// Activations by Highway, one pass each way. Not for: threads (cpu/activation.cpp).
#include "headway/ops/cpu/activation_kernels.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "headway/ops/cpu/activation_kernels.cpp"
#include <hwy/foreach_target.h>
// After foreach_target.
#include "headway/ops/cpu/rows-inl.h"

HWY_BEFORE_NAMESPACE();
namespace headway::ops::cpu {
namespace HWY_NAMESPACE {
using namespace rows::HWY_NAMESPACE;  // NOLINT: the lanes of this target

template <class D>
struct Point {
  hn::Vec<D> value, slope;
};

/// x·σ(a·x + b·x³): silu with a = 1 and b = 0, quick-gelu with a = 1.702; tanh-gelu with twice its
/// angle, as (1 + tanh(u))/2 = σ(2u). The slope is σ·(1 + x·(1-σ)·(a + 3b·x²)).
template <Curve kCurve, class D>
HWY_INLINE Point<D> sample(D d, hn::Vec<D> x) {
  const auto one = hn::Set(d, 1.0f);
  if constexpr (kCurve == Curve::kRelu) {
    const auto negative = hn::Lt(x, hn::Zero(d));
    const auto positive = hn::Gt(x, hn::Zero(d));
    return {hn::IfThenZeroElse(negative, x), hn::IfThenElseZero(positive, one)};
  } else if constexpr (kCurve == Curve::kSilu) {
    const auto s = logistic(d, x);
    return {hn::Mul(x, s.value), hn::Mul(s.value, hn::MulAdd(x, s.complement, one))};
  } else if constexpr (kCurve == Curve::kQuickGelu) {
    const auto angle = hn::Mul(hn::Set(d, 1.702f), x);
    const auto s = logistic(d, angle);
    return {hn::Mul(x, s.value), hn::Mul(s.value, hn::MulAdd(angle, s.complement, one))};
  } else {
    constexpr float kLinear = 1.5957691216057308f;   // 2·sqrt(2/π)
    constexpr float kCubic = 0.071354816272600242f;  // 0.044715 of it
    const auto square = hn::Mul(x, x);
    const auto linear = hn::Set(d, kLinear);
    const auto ratio = hn::MulAdd(hn::Set(d, kCubic), square, linear);
    const auto s = logistic(d, hn::Mul(x, ratio));
    const auto steep = hn::MulAdd(hn::Set(d, 3 * kCubic), square, linear);
    const auto bend = hn::Mul(hn::Mul(x, s.complement), steep);
    return {hn::Mul(x, s.value), hn::MulAdd(s.value, bend, s.value)};
  }
}

template <Curve kCurve, class T>
HWY_INLINE void forward_plain(const ActivationRows& rows, int64_t begin, int64_t end) {
  const T* x = static_cast<const T*>(rows.x) + begin * rows.width;
  T* y = static_cast<T*>(rows.y) + begin * rows.width;
  for_lanes((end - begin) * rows.width, [=](auto d, int64_t i) HEADWAY_LANES {
    store(d, sample<kCurve>(d, load(d, x + i)).value, y + i);
  });
}

template <Curve kCurve, class T>
HWY_INLINE void backward_plain(const ActivationRows& rows, int64_t begin, int64_t end) {
  const T* x = static_cast<const T*>(rows.x) + begin * rows.width;
  const T* d_y = static_cast<const T*>(rows.d_y) + begin * rows.width;
  T* d_x = static_cast<T*>(rows.d_x) + begin * rows.width;
  for_lanes((end - begin) * rows.width, [=](auto d, int64_t i) HEADWAY_LANES {
    const auto slope = sample<kCurve>(d, load(d, x + i)).slope;
    store(d, hn::Mul(load(d, d_y + i), slope), d_x + i);
  });
}

// Comparisons, so that NaN stays NaN.
template <class D>
HWY_INLINE hn::Vec<D> at_most(D d, hn::Vec<D> x, float limit) {
  const auto bound = hn::Set(d, limit);
  return hn::IfThenElse(hn::Gt(x, bound), bound, x);
}
template <class D>
HWY_INLINE hn::Vec<D> at_least(D d, hn::Vec<D> x, float limit) {
  const auto bound = hn::Set(d, limit);
  return hn::IfThenElse(hn::Lt(x, bound), bound, x);
}

struct Limits {
  float gate, act, up, offset;
};

HWY_INLINE Limits limits_of(const ActivationRows& rows) {
  return {rows.gate_limit, rows.act_limit, rows.up_limit, rows.offset};
}

template <Curve kCurve, class T>
HWY_INLINE void forward_gated(const ActivationRows& rows, int64_t begin, int64_t end) {
  const int64_t width = rows.width;
  const Limits limits = limits_of(rows);
  for (int64_t row = begin; row < end; ++row) {
    const T* x = static_cast<const T*>(rows.x) + 2 * row * width;
    T* y = static_cast<T*>(rows.y) + row * width;
    for_lanes(width, [=](auto d, int64_t i) HEADWAY_LANES {
      const auto gate = at_most(d, load(d, x + i), limits.gate);
      const auto act = at_most(d, sample<kCurve>(d, gate).value, limits.act);
      const auto up = at_least(d, at_most(d, load(d, x + width + i), limits.up), -limits.up);
      store(d, hn::Mul(act, hn::Add(up, hn::Set(d, limits.offset))), y + i);
    });
  }
}

template <Curve kCurve, class T>
HWY_INLINE void backward_gated(const ActivationRows& rows, int64_t begin, int64_t end) {
  const int64_t width = rows.width;
  const Limits limits = limits_of(rows);
  for (int64_t row = begin; row < end; ++row) {
    const T* x = static_cast<const T*>(rows.x) + 2 * row * width;
    const T* d_y = static_cast<const T*>(rows.d_y) + row * width;
    T* d_x = static_cast<T*>(rows.d_x) + 2 * row * width;
    for_lanes(width, [=](auto d, int64_t i) HEADWAY_LANES {
      const auto gate = load(d, x + i), up = load(d, x + width + i), gradient = load(d, d_y + i);
      const auto gate_over = hn::Gt(gate, hn::Set(d, limits.gate));
      const auto act = sample<kCurve>(d, at_most(d, gate, limits.gate));
      const auto act_over = hn::Gt(act.value, hn::Set(d, limits.act));
      const auto up_over = hn::Gt(up, hn::Set(d, limits.up));
      const auto up_under = hn::Lt(up, hn::Set(d, -limits.up));
      const auto held = at_least(d, at_most(d, up, limits.up), -limits.up);
      const auto factor = hn::Add(held, hn::Set(d, limits.offset));
      const auto d_gate = hn::Mul(hn::Mul(gradient, factor), act.slope);
      const auto d_up = hn::Mul(gradient, at_most(d, act.value, limits.act));
      store(d, hn::IfThenZeroElse(gate_over, hn::IfThenZeroElse(act_over, d_gate)), d_x + i);
      store(d, hn::IfThenZeroElse(up_over, hn::IfThenZeroElse(up_under, d_up)), d_x + width + i);
    });
  }
}

template <Curve kCurve, class T>
HWY_INLINE void forward(const ActivationRows& rows, int64_t begin, int64_t end) {
  if (rows.gated) return forward_gated<kCurve, T>(rows, begin, end);
  forward_plain<kCurve, T>(rows, begin, end);
}

template <Curve kCurve, class T>
HWY_INLINE void backward(const ActivationRows& rows, int64_t begin, int64_t end) {
  if (rows.gated) return backward_gated<kCurve, T>(rows, begin, end);
  backward_plain<kCurve, T>(rows, begin, end);
}

template <Curve kCurve>
HWY_INLINE void run_curve(const ActivationRows& rows, int64_t begin, int64_t end) {
  const bool is_forward = rows.d_y == nullptr, is_float = rows.element == Element::kFloat;
  if (is_forward && is_float) return forward<kCurve, float>(rows, begin, end);
  if (is_forward) return forward<kCurve, BFloat16>(rows, begin, end);
  if (is_float) return backward<kCurve, float>(rows, begin, end);
  backward<kCurve, BFloat16>(rows, begin, end);
}

/// Forward if d_y is null, else backward.
void run_rows(const ActivationRows& rows, int64_t begin, int64_t end) {
  switch (rows.curve) {
    case Curve::kSilu:
      return run_curve<Curve::kSilu>(rows, begin, end);
    case Curve::kGeluTanh:
      return run_curve<Curve::kGeluTanh>(rows, begin, end);
    case Curve::kRelu:
      return run_curve<Curve::kRelu>(rows, begin, end);
    case Curve::kQuickGelu:
      return run_curve<Curve::kQuickGelu>(rows, begin, end);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace headway::ops::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace headway::ops::cpu {

HWY_EXPORT(run_rows);

void activation_rows(const ActivationRows& rows, int64_t begin, int64_t end) {
  HWY_DYNAMIC_DISPATCH(run_rows)(rows, begin, end);
}

}  // namespace headway::ops::cpu
#endif
