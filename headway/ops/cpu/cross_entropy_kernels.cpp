// Blocks of logits by Highway, small enough to be in the cache since their product was formed.
// Not for: threads (cpu/cross_entropy.cpp).
#include "headway/ops/cpu/cross_entropy_kernels.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "headway/ops/cpu/cross_entropy_kernels.cpp"
#include <hwy/foreach_target.h>
// After foreach_target.
#include <algorithm>
#include <cmath>
#include <limits>

#include "headway/ops/cpu/rows-inl.h"

HWY_BEFORE_NAMESPACE();
namespace headway::ops::cpu {
namespace HWY_NAMESPACE {
using namespace rows::HWY_NAMESPACE;  // NOLINT: the lanes of this target

template <class D>
HWY_INLINE hn::Vec<D> capped(D d, hn::Vec<D> z, float softcap) {
  const auto cap = hn::Set(d, softcap);
  return hn::Mul(cap, hn::Tanh(d, hn::Div(z, cap)));
}

/// Largest logit, after the cap when there is one. An infinite or NaN logit turns the sum of z·0
/// into NaN, which maximum and Exp would both lose.
template <class T>
HWY_INLINE float find_peak(const T* row, int64_t count, float softcap) {
  const hn::ScalableTag<float> full;
  const auto lanes = static_cast<int64_t>(hn::Lanes(full));
  const hn::CappedTag<float, 1> one;
  auto top = hn::Set(full, -std::numeric_limits<float>::infinity());
  auto poison = hn::Zero(full);
  int64_t i = 0;
  for (; i + lanes <= count; i += lanes) {
    const auto z = load(full, row + i);
    top = hn::Max(top, z);
    poison = hn::MulAdd(z, hn::Zero(full), poison);
  }
  float peak = hn::GetLane(hn::MaxOfLanes(full, top));
  float not_finite = hn::GetLane(hn::SumOfLanes(full, poison));
  for (; i < count; ++i) {
    const float z = hn::GetLane(load(one, row + i));
    peak = std::max(peak, z);
    not_finite += z * 0.0f;
  }
  if (not_finite != 0.0f) return std::numeric_limits<float>::quiet_NaN();
  return softcap > 0 ? hn::GetLane(capped(one, hn::Set(one, peak), softcap)) : peak;
}

template <class T>
HWY_INLINE double sum_exponentials(const T* row, int64_t count, float peak, float softcap) {
  if (softcap > 0) {
    return sum_over(count, [=](auto d, int64_t i) HEADWAY_LANES {
      const auto z = capped(d, load(d, row + i), softcap);
      return hn::Exp(d, hn::Sub(z, hn::Set(d, peak)));
    });
  }
  return sum_over(count, [=](auto d, int64_t i) HEADWAY_LANES {
    return hn::Exp(d, hn::Sub(load(d, row + i), hn::Set(d, peak)));
  });
}

/// Place of a row's label within the block, or -1.
HWY_INLINE int64_t label_place(const LogitBlock& block, int64_t row) {
  const int64_t place = block.labels[row] - block.first;
  return place >= 0 && place < block.columns ? place : -1;
}

struct LabelLogit {
  double z;      // after the cap
  double slope;  // derivative of the cap
};

template <class T>
HWY_INLINE LabelLogit label_logit(const T* at, double softcap) {
  const hn::CappedTag<float, 1> one;
  const double z = hn::GetLane(load(one, at));
  if (softcap == 0) return {z, 1.0};
  const double ratio = std::tanh(z / softcap);
  return {softcap * ratio, 1.0 - ratio * ratio};
}

template <class T>
HWY_INLINE void statistics_of(const LogitBlock& block, const BlockStatistics& statistics) {
  const auto softcap = static_cast<float>(block.softcap);
  for (int64_t row = 0; row < block.rows; ++row) {
    const T* logits = static_cast<const T*>(block.logits) + row * block.columns;
    const float peak = find_peak(logits, block.columns, softcap);
    statistics.peak[row] = peak;
    statistics.sum[row] = sum_exponentials(logits, block.columns, peak, softcap);
    const int64_t place = label_place(block, row);
    if (place >= 0) {
      statistics.label_logit[row] = label_logit(logits + place, block.softcap).z;
    }
  }
}

template <class T>
HWY_INLINE void gradient_row(const T* row, T* out, int64_t count, float lse, float factor,
                             float softcap) {
  if (softcap > 0) {
    for_lanes(count, [=](auto d, int64_t i) HEADWAY_LANES {
      const auto tanh = hn::Tanh(d, hn::Div(load(d, row + i), hn::Set(d, softcap)));
      const auto z = hn::Mul(tanh, hn::Set(d, softcap));
      const auto slope = hn::NegMulAdd(tanh, tanh, hn::Set(d, 1.0f));
      const auto p = hn::Exp(d, hn::Sub(z, hn::Set(d, lse)));
      store(d, hn::Mul(hn::Mul(p, hn::Set(d, factor)), slope), out + i);
    });
  } else {
    for_lanes(count, [=](auto d, int64_t i) HEADWAY_LANES {
      const auto p = hn::Exp(d, hn::Sub(load(d, row + i), hn::Set(d, lse)));
      store(d, hn::Mul(p, hn::Set(d, factor)), out + i);
    });
  }
}

template <class T>
HWY_INLINE void gradient_of(const LogitBlock& block, const BlockGradient& gradient) {
  const hn::CappedTag<float, 1> one;
  for (int64_t row = 0; row < block.rows; ++row) {
    const T* logits = static_cast<const T*>(block.logits) + row * block.columns;
    T* out = static_cast<T*>(gradient.out) + row * block.columns;
    const double lse = gradient.lse[row], factor = gradient.factor[row];
    gradient_row(logits, out, block.columns, static_cast<float>(lse), static_cast<float>(factor),
                 static_cast<float>(block.softcap));
    const int64_t place = label_place(block, row);
    if (place < 0) continue;
    const LabelLogit label = label_logit(logits + place, block.softcap);
    const double d = (std::exp(label.z - lse) * factor - 1.0 / gradient.divisor) * label.slope;
    store(one, hn::Set(one, static_cast<float>(d)), out + place);
  }
}

void statistics(const LogitBlock& block, const BlockStatistics& statistics) {
  if (block.element == Element::kFloat) {
    statistics_of<float>(block, statistics);
  } else {
    statistics_of<BFloat16>(block, statistics);
  }
}

void gradient(const LogitBlock& block, const BlockGradient& gradient) {
  if (block.element == Element::kFloat) {
    gradient_of<float>(block, gradient);
  } else {
    gradient_of<BFloat16>(block, gradient);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace headway::ops::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace headway::ops::cpu {

HWY_EXPORT(statistics);
HWY_EXPORT(gradient);

void block_statistics(const LogitBlock& block, const BlockStatistics& result) {
  HWY_DYNAMIC_DISPATCH(statistics)(block, result);
}

void block_gradient(const LogitBlock& block, const BlockGradient& result) {
  HWY_DYNAMIC_DISPATCH(gradient)(block, result);
}

}  // namespace headway::ops::cpu
#endif
