// Norm rows by Highway: a row is read from memory once and stays in the first-level cache for the
// passes over it. Not for: threads (cpu/norm.cpp).
#include "headway/ops/cpu/norm_kernels.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "headway/ops/cpu/norm_kernels.cpp"
#include <hwy/foreach_target.h>
// After foreach_target.
#include <cmath>

#include "headway/ops/cpu/rows-inl.h"

HWY_BEFORE_NAMESPACE();
namespace headway::ops::cpu {
namespace HWY_NAMESPACE {
using namespace rows::HWY_NAMESPACE;  // NOLINT: the lanes of this target
using internal::RowCursor;

/// What a row is turned by; an integral constant so that every combination is its own loop.
template <class Type, NormWeighting kKind, bool kIsLayer>
struct Traits {
  using T = Type;
  static constexpr NormWeighting kWeighting = kKind;
  static constexpr bool kLayer = kIsLayer;
};

template <NormWeighting kWeighting, class D>
HWY_INLINE hn::Vec<D> weigh(D d, hn::Vec<D> value, const float* weight) {
  if constexpr (kWeighting == NormWeighting::kNone) {
    return value;
  } else if constexpr (kWeighting == NormWeighting::kOnePlus) {
    return hn::Mul(value, hn::Add(hn::Set(d, 1.0f), hn::LoadU(d, weight)));
  } else {
    return hn::Mul(value, hn::LoadU(d, weight));
  }
}

template <class X>
HWY_INLINE void forward_row(const NormForwardRows& rows, const typename X::T* x, typename X::T* y,
                            int64_t row) {
  const int64_t channels = rows.shape.channels;
  const auto count = static_cast<float>(channels);
  float mean = 0;
  if constexpr (X::kLayer) {
    mean = sum_over(channels, [=](auto d, int64_t i) HEADWAY_LANES { return load(d, x + i); });
    mean /= count;
    rows.mean[row] = mean;
  }
  const float squares = sum_over(channels, [=](auto d, int64_t i) HEADWAY_LANES {
    auto value = load(d, x + i);
    if constexpr (X::kLayer) value = hn::Sub(value, hn::Set(d, mean));
    return hn::Mul(value, value);
  });
  const float rstd = 1.0f / std::sqrt(squares / count + rows.eps);
  rows.rstd[row] = rstd;
  const float *weight = rows.shape.weight, *bias = rows.bias;
  for_lanes(channels, [=](auto d, int64_t i) HEADWAY_LANES {
    auto value = load(d, x + i);
    if constexpr (X::kLayer) value = hn::Sub(value, hn::Set(d, mean));
    value = hn::Mul(value, hn::Set(d, rstd));
    if constexpr (X::kWeighting == NormWeighting::kRounded) {
      value = rounded_to<typename X::T>(d, value);
    }
    value = weigh<X::kWeighting>(d, value, weight + i);
    if (X::kLayer && bias != nullptr) value = hn::Add(value, hn::LoadU(d, bias + i));
    store(d, value, y + i);
  });
}

template <class X>
HWY_INLINE void forward(const NormForwardRows& rows, int64_t begin, int64_t end) {
  using T = typename X::T;
  const int64_t channels = rows.shape.channels;
  RowCursor x_row(rows.x_layout, begin), delta_row(rows.delta_layout, begin);
  for (int64_t row = begin; row < end; ++row, x_row.next(), delta_row.next()) {
    const T* x = static_cast<const T*>(rows.x) + x_row.offset();
    if (rows.delta != nullptr) {
      const T* delta = static_cast<const T*>(rows.delta) + delta_row.offset();
      T* sum = static_cast<T*>(rows.sum) + row * channels;
      for_lanes(channels, [=](auto d, int64_t i) HEADWAY_LANES {
        store(d, hn::Add(load(d, x + i), load(d, delta + i)), sum + i);
      });
      x = sum;
    }
    forward_row<X>(rows, x, static_cast<T*>(rows.y) + row * channels, row);
  }
}

/// Pointers of one row of the backward pass.
template <class T>
struct BackwardRow {
  const T *x, *d_y, *d_sum;
  T* d_x;
  float mean, rstd;
};

/// d_x = r·(ĝ - mean(ĝ) - x̂·mean(ĝ∘x̂)) + d_sum with ĝ = d_y∘w'; no mean(ĝ) for RMSNorm.
template <class X>
HWY_INLINE void backward_row(const NormShape& shape, const BackwardRow<typename X::T>& row,
                             float* d_weight, float* d_bias) {
  const int64_t channels = shape.channels;
  const float* weight = shape.weight;
  const auto* x = row.x;
  const auto* d_y = row.d_y;
  const float mean = row.mean, rstd = row.rstd;
  const auto normalised = [=](auto d, int64_t i) HEADWAY_LANES {
    auto value = load(d, x + i);
    if constexpr (X::kLayer) value = hn::Sub(value, hn::Set(d, mean));
    return hn::Mul(value, hn::Set(d, rstd));
  };
  const float count = static_cast<float>(channels);
  const float along =
      sum_over(channels,
               [=](auto d, int64_t i) HEADWAY_LANES {
                 return hn::Mul(weigh<X::kWeighting>(d, load(d, d_y + i), weight + i),
                                normalised(d, i));
               }) /
      count;
  float level = 0;
  if constexpr (X::kLayer) {
    level = sum_over(channels,
                     [=](auto d, int64_t i) HEADWAY_LANES {
                       return weigh<X::kWeighting>(d, load(d, d_y + i), weight + i);
                     }) /
            count;
  }
  for_lanes(channels, [=](auto d, int64_t i) HEADWAY_LANES {
    const auto gradient = load(d, d_y + i), x_hat = normalised(d, i);
    auto inner = weigh<X::kWeighting>(d, gradient, weight + i);
    inner = hn::NegMulAdd(x_hat, hn::Set(d, along), inner);
    if constexpr (X::kLayer) inner = hn::Sub(inner, hn::Set(d, level));
    inner = hn::Mul(inner, hn::Set(d, rstd));
    if (row.d_sum != nullptr) inner = hn::Add(inner, load(d, row.d_sum + i));
    store(d, inner, row.d_x + i);
    if (d_weight != nullptr) {
      store(d, hn::MulAdd(gradient, x_hat, hn::LoadU(d, d_weight + i)), d_weight + i);
    }
    if (X::kLayer && d_bias != nullptr) {
      store(d, hn::Add(gradient, hn::LoadU(d, d_bias + i)), d_bias + i);
    }
  });
}

/// The part of [begin, end) that a pair of gradient accumulators takes.
struct BackwardRange {
  int64_t begin, end;
  float *d_weight, *d_bias;
};

template <class X>
HWY_INLINE void backward(const NormBackwardRows& rows, const BackwardRange& range) {
  using T = typename X::T;
  RowCursor x_row(rows.x_layout, range.begin), d_y_row(rows.d_y_layout, range.begin);
  RowCursor d_sum_row(rows.d_sum_layout, range.begin);
  for (int64_t row = range.begin; row < range.end; ++row) {
    BackwardRow<T> one;
    one.x = static_cast<const T*>(rows.x) + x_row.offset();
    one.d_y = static_cast<const T*>(rows.d_y) + d_y_row.offset();
    one.d_sum =
        rows.d_sum == nullptr ? nullptr : static_cast<const T*>(rows.d_sum) + d_sum_row.offset();
    one.d_x = static_cast<T*>(rows.d_x) + row * rows.shape.channels;
    one.mean = X::kLayer ? rows.mean[row] : 0.0f;
    one.rstd = rows.rstd[row];
    backward_row<X>(rows.shape, one, range.d_weight, range.d_bias);
    x_row.next();
    d_y_row.next();
    d_sum_row.next();
  }
}

struct Forward {
  template <class X>
  HWY_INLINE void operator()(X, const NormForwardRows& rows, int64_t begin, int64_t end) const {
    forward<X>(rows, begin, end);
  }
};

struct Backward {
  template <class X>
  HWY_INLINE void operator()(X, const NormBackwardRows& rows, const BackwardRange& range) const {
    backward<X>(rows, range);
  }
};

/// Calls run(Traits<…>(), arguments…) for the combination that `shape` names.
template <class T, class Run, class... Arguments>
HWY_INLINE void with_weighting(const NormShape& shape, const Run& run,
                               const Arguments&... arguments) {
  constexpr auto kNone = NormWeighting::kNone, kDirect = NormWeighting::kDirect;
  constexpr auto kRounded = NormWeighting::kRounded, kOnePlus = NormWeighting::kOnePlus;
  if (shape.layer) {
    if (shape.weighting == kNone) return run(Traits<T, kNone, true>(), arguments...);
    return run(Traits<T, kDirect, true>(), arguments...);
  }
  switch (shape.weighting) {
    case kNone:
      return run(Traits<T, kNone, false>(), arguments...);
    case kDirect:
      return run(Traits<T, kDirect, false>(), arguments...);
    case kRounded:
      // Rounding a float32 to float32 changes nothing.
      if constexpr (std::is_same_v<T, float>) return run(Traits<T, kDirect, false>(), arguments...);
      return run(Traits<T, kRounded, false>(), arguments...);
    case kOnePlus:
      return run(Traits<T, kOnePlus, false>(), arguments...);
  }
}

template <class Run, class... Arguments>
HWY_INLINE void with_traits(const NormShape& shape, const Run& run, const Arguments&... arguments) {
  if (shape.element == Element::kFloat) {
    with_weighting<float>(shape, run, arguments...);
  } else {
    with_weighting<BFloat16>(shape, run, arguments...);
  }
}

void run_forward(const NormForwardRows& rows, int64_t begin, int64_t end) {
  with_traits(rows.shape, Forward(), rows, begin, end);
}

void run_backward(const NormBackwardRows& rows, int64_t begin, int64_t end, float* d_weight,
                  float* d_bias) {
  with_traits(rows.shape, Backward(), rows, BackwardRange{begin, end, d_weight, d_bias});
}

}  // namespace HWY_NAMESPACE
}  // namespace headway::ops::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace headway::ops::cpu {

HWY_EXPORT(run_forward);
HWY_EXPORT(run_backward);

void norm_forward_rows(const NormForwardRows& rows, int64_t begin, int64_t end) {
  HWY_DYNAMIC_DISPATCH(run_forward)(rows, begin, end);
}

void norm_backward_rows(const NormBackwardRows& rows, int64_t begin, int64_t end, float* d_weight,
                        float* d_bias) {
  HWY_DYNAMIC_DISPATCH(run_backward)(rows, begin, end, d_weight, d_bias);
}

}  // namespace headway::ops::cpu
#endif
