// Row loops of the experts op by Highway. Not for: threads.
#include "headway/ops/cpu/expert_rows.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "headway/ops/cpu/expert_rows.cpp"
#include <hwy/foreach_target.h>
// After foreach_target.
#include "headway/ops/cpu/rows-inl.h"

HWY_BEFORE_NAMESPACE();
namespace headway::ops::cpu {
namespace HWY_NAMESPACE {
using namespace rows::HWY_NAMESPACE;  // NOLINT: the lanes of this target

template <class T>
HWY_INLINE void scale(T* rows, int64_t count, int64_t width, const float* factors) {
  for (int64_t row = 0; row < count; ++row) {
    T* x = rows + row * width;
    const float factor = factors[row];
    for_lanes(width, [=](auto d, int64_t i) HEADWAY_LANES {
      store(d, hn::Mul(load(d, x + i), hn::Set(d, factor)), x + i);
    });
  }
}

template <class T>
HWY_INLINE void dot(const T* a, const T* b, int64_t count, int64_t width, float* out) {
  for (int64_t row = 0; row < count; ++row) {
    const T* left = a + row * width;
    const T* right = b + row * width;
    out[row] = sum_over(width, [=](auto d, int64_t i) HEADWAY_LANES {
      return hn::Mul(load(d, left + i), load(d, right + i));
    });
  }
}

template <class T>
HWY_INLINE void combine(const CombineRows& c, int64_t begin, int64_t end) {
  const T* rows = static_cast<const T*>(c.rows);
  for (int64_t t = begin; t < end; ++t) {
    T* out = static_cast<T*>(c.out) + t * c.width;
    const int64_t* places = c.places + t * c.top_k;
    const int64_t top_k = c.top_k, width = c.width;
    for_lanes(width, [=](auto d, int64_t i) HEADWAY_LANES {
      auto sum = hn::Zero(d);
      for (int64_t j = 0; j < top_k; ++j) {
        if (places[j] >= 0) sum = hn::Add(sum, load(d, rows + places[j] * width + i));
      }
      store(d, sum, out + i);
    });
  }
}

void scale_all(Element element, void* rows, int64_t count, int64_t width, const float* factors) {
  if (element == Element::kFloat) {
    scale(static_cast<float*>(rows), count, width, factors);
  } else {
    scale(static_cast<BFloat16*>(rows), count, width, factors);
  }
}

void dot_all(Element element, const void* a, const void* b, int64_t count, int64_t width,
             float* out) {
  if (element == Element::kFloat) {
    dot(static_cast<const float*>(a), static_cast<const float*>(b), count, width, out);
  } else {
    dot(static_cast<const BFloat16*>(a), static_cast<const BFloat16*>(b), count, width, out);
  }
}

void combine_all(const CombineRows& c, int64_t begin, int64_t end) {
  if (c.element == Element::kFloat) {
    combine<float>(c, begin, end);
  } else {
    combine<BFloat16>(c, begin, end);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace headway::ops::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace headway::ops::cpu {

HWY_EXPORT(scale_all);
HWY_EXPORT(dot_all);
HWY_EXPORT(combine_all);

void scale_expert_rows(Element element, void* rows, int64_t count, int64_t width,
                       const float* factors) {
  HWY_DYNAMIC_DISPATCH(scale_all)(element, rows, count, width, factors);
}

void dot_expert_rows(Element element, const void* a, const void* b, int64_t count, int64_t width,
                     float* out) {
  HWY_DYNAMIC_DISPATCH(dot_all)(element, a, b, count, width, out);
}

void combine_expert_rows(const CombineRows& c, int64_t begin, int64_t end) {
  HWY_DYNAMIC_DISPATCH(combine_all)(c, begin, end);
}

}  // namespace headway::ops::cpu
#endif
