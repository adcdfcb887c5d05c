// Few rows times a weight by Highway: every weight is read once, as fast as memory gives it.
// Not for: threads (cpu/gemv.cpp).
#include "headway/ops/cpu/gemv_kernels.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "headway/ops/cpu/gemv_kernels.cpp"
#include <hwy/foreach_target.h>
// After foreach_target.
#include "headway/ops/cpu/rows-inl.h"

HWY_BEFORE_NAMESPACE();
namespace headway::ops::cpu {
namespace HWY_NAMESPACE {
using namespace rows::HWY_NAMESPACE;  // NOLINT: the lanes of this target

template <class T>
HWY_INLINE void store_one(float value, T* to) {
  const hn::CappedTag<float, 1> one;
  store(one, hn::Set(one, value), to);
}

template <class T>
HWY_INLINE float load_one(const T* from) {
  const hn::CappedTag<float, 1> one;
  return hn::GetLane(load(one, from));
}

/// kTokens x kOutputs dot products from token t and output o on.
template <class T, int kTokens, int kOutputs>
HWY_INLINE void dot_products(const Gemv& gemv, int64_t t, int64_t o) {
  const hn::ScalableTag<float> d;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  const float* x = gemv.x + t * gemv.inputs;
  const T* weight = static_cast<const T*>(gemv.weight) + o * gemv.weight_stride;
  hn::Vec<decltype(d)> sum[kTokens][kOutputs];
  for (int a = 0; a < kTokens; ++a) {
    for (int b = 0; b < kOutputs; ++b) sum[a][b] = hn::Zero(d);
  }
  int64_t i = 0;
  for (; i + lanes <= gemv.inputs; i += lanes) {
    hn::Vec<decltype(d)> left[kTokens];
    for (int a = 0; a < kTokens; ++a) left[a] = hn::LoadU(d, x + a * gemv.inputs + i);
    for (int b = 0; b < kOutputs; ++b) {
      const auto right = load(d, weight + b * gemv.weight_stride + i);
      for (int a = 0; a < kTokens; ++a) sum[a][b] = hn::MulAdd(left[a], right, sum[a][b]);
    }
  }
  for (int b = 0; b < kOutputs; ++b) {
    for (int a = 0; a < kTokens; ++a) {
      float value = hn::GetLane(hn::SumOfLanes(d, sum[a][b]));
      for (int64_t rest = i; rest < gemv.inputs; ++rest) {
        value += x[a * gemv.inputs + rest] * load_one(weight + b * gemv.weight_stride + rest);
      }
      if (gemv.bias != nullptr) value += gemv.bias[o + b];
      store_one(value, static_cast<T*>(gemv.y) + (t + a) * gemv.y_stride + o + b);
    }
  }
}

/// All tokens, four at a time, while the weights of these outputs are in the first-level cache.
template <class T, int kOutputs>
HWY_INLINE void all_tokens(const Gemv& gemv, int64_t o) {
  int64_t t = 0;
  for (; t + 4 <= gemv.tokens; t += 4) dot_products<T, 4, kOutputs>(gemv, t, o);
  switch (gemv.tokens - t) {
    case 3:
      return dot_products<T, 3, kOutputs>(gemv, t, o);
    case 2:
      return dot_products<T, 2, kOutputs>(gemv, t, o);
    case 1:
      return dot_products<T, 1, kOutputs>(gemv, t, o);
    default:
      return;
  }
}

template <class T>
HWY_INLINE void outputs(const Gemv& gemv, int64_t begin, int64_t end) {
  int64_t o = begin;
  if (gemv.tokens <= 2) {
    for (; o + 4 <= end; o += 4) all_tokens<T, 4>(gemv, o);
  }
  for (; o + 2 <= end; o += 2) all_tokens<T, 2>(gemv, o);
  for (; o < end; ++o) all_tokens<T, 1>(gemv, o);
}

void gemv(const Gemv& gemv, int64_t begin, int64_t end) {
  if (gemv.element == Element::kFloat) {
    outputs<float>(gemv, begin, end);
  } else {
    outputs<BFloat16>(gemv, begin, end);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace headway::ops::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace headway::ops::cpu {

HWY_EXPORT(gemv);

void gemv_outputs(const Gemv& gemv, int64_t begin, int64_t end) {
  HWY_DYNAMIC_DISPATCH(gemv)(gemv, begin, end);
}

}  // namespace headway::ops::cpu
#endif
