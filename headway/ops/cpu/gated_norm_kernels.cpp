// Rows of the gated norm by Highway. Not for: threads (cpu/gated_norm.cpp).
#include "headway/ops/cpu/gated_norm_kernels.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "headway/ops/cpu/gated_norm_kernels.cpp"
#include <hwy/foreach_target.h>
// After foreach_target.
#include <cmath>

#include "headway/ops/cpu/rows-inl.h"

HWY_BEFORE_NAMESPACE();
namespace headway::ops::cpu {
namespace HWY_NAMESPACE {
using namespace rows::HWY_NAMESPACE;  // NOLINT: the lanes of this target
using internal::RowCursor;

/// gate(z) and its slope.
template <class D>
struct Gate {
  hn::Vec<D> value, slope;
};

template <bool kSilu, class D>
HWY_INLINE Gate<D> gate_of(D d, hn::Vec<D> z) {
  const auto sigma = logistic(d, z);
  if constexpr (kSilu) {
    return {hn::Mul(z, sigma.value),
            hn::Mul(sigma.value, hn::MulAdd(z, sigma.complement, hn::Set(d, 1.0f)))};
  } else {
    return {sigma.value, hn::Mul(sigma.value, sigma.complement)};
  }
}

template <bool kSilu, class T>
HWY_INLINE void forward(const GatedNormRows& r, int64_t begin, int64_t end) {
  const int64_t channels = r.channels;
  RowCursor x_row(r.x_layout, begin), z_row(r.z_layout, begin);
  for (int64_t row = begin; row < end; ++row, x_row.next(), z_row.next()) {
    const T* x = static_cast<const T*>(r.x) + x_row.offset();
    const T* z = static_cast<const T*>(r.z) + z_row.offset();
    T* y = static_cast<T*>(r.y) + row * channels;
    const float squares = sum_over(channels, [=](auto d, int64_t i) HEADWAY_LANES {
      const auto value = load(d, x + i);
      return hn::Mul(value, value);
    });
    const float rstd = 1.0f / std::sqrt(squares / static_cast<float>(channels) + r.eps);
    r.rstd[row] = rstd;
    const float* weight = r.weight;
    for_lanes(channels, [=](auto d, int64_t i) HEADWAY_LANES {
      auto value = hn::Mul(load(d, x + i), hn::Set(d, rstd));
      value = hn::Mul(value, hn::LoadU(d, weight + i));
      store(d, hn::Mul(value, gate_of<kSilu>(d, load(d, z + i)).value), y + i);
    });
  }
}

template <bool kSilu, class T>
HWY_INLINE void backward(const GatedNormRows& r, int64_t begin, int64_t end, float* d_weight) {
  const int64_t channels = r.channels;
  const float* weight = r.weight;
  RowCursor x_row(r.x_layout, begin), z_row(r.z_layout, begin), d_row(r.d_y_layout, begin);
  for (int64_t row = begin; row < end; ++row, x_row.next(), z_row.next(), d_row.next()) {
    const T* x = static_cast<const T*>(r.x) + x_row.offset();
    const T* z = static_cast<const T*>(r.z) + z_row.offset();
    const T* d_y = static_cast<const T*>(r.d_y) + d_row.offset();
    T* d_x = static_cast<T*>(r.d_x) + row * channels;
    T* d_z = static_cast<T*>(r.d_z) + row * channels;
    const float rstd = r.rstd[row];
    const float along = sum_over(channels,
                                 [=](auto d, int64_t i) HEADWAY_LANES {
                                   const auto gated = hn::Mul(
                                       load(d, d_y + i), gate_of<kSilu>(d, load(d, z + i)).value);
                                   const auto x_hat = hn::Mul(load(d, x + i), hn::Set(d, rstd));
                                   return hn::Mul(hn::Mul(gated, hn::LoadU(d, weight + i)), x_hat);
                                 }) /
                        static_cast<float>(channels);
    for_lanes(channels, [=](auto d, int64_t i) HEADWAY_LANES {
      const auto gate = gate_of<kSilu>(d, load(d, z + i));
      const auto gradient = load(d, d_y + i), factor = hn::LoadU(d, weight + i);
      const auto x_hat = hn::Mul(load(d, x + i), hn::Set(d, rstd));
      const auto gated = hn::Mul(gradient, gate.value);
      const auto inner = hn::NegMulAdd(x_hat, hn::Set(d, along), hn::Mul(gated, factor));
      store(d, hn::Mul(inner, hn::Set(d, rstd)), d_x + i);
      store(d, hn::Mul(hn::Mul(gradient, factor), hn::Mul(x_hat, gate.slope)), d_z + i);
      hn::StoreU(hn::MulAdd(gated, x_hat, hn::LoadU(d, d_weight + i)), d, d_weight + i);
    });
  }
}

void run_forward(const GatedNormRows& rows, int64_t begin, int64_t end) {
  if (rows.element == Element::kFloat) {
    rows.silu ? forward<true, float>(rows, begin, end) : forward<false, float>(rows, begin, end);
  } else {
    rows.silu ? forward<true, BFloat16>(rows, begin, end)
              : forward<false, BFloat16>(rows, begin, end);
  }
}

void run_backward(const GatedNormRows& rows, int64_t begin, int64_t end, float* d_weight) {
  if (rows.element == Element::kFloat) {
    rows.silu ? backward<true, float>(rows, begin, end, d_weight)
              : backward<false, float>(rows, begin, end, d_weight);
  } else {
    rows.silu ? backward<true, BFloat16>(rows, begin, end, d_weight)
              : backward<false, BFloat16>(rows, begin, end, d_weight);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace headway::ops::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace headway::ops::cpu {

HWY_EXPORT(run_forward);
HWY_EXPORT(run_backward);

void gated_norm_forward_rows(const GatedNormRows& rows, int64_t begin, int64_t end) {
  HWY_DYNAMIC_DISPATCH(run_forward)(rows, begin, end);
}

void gated_norm_backward_rows(const GatedNormRows& rows, int64_t begin, int64_t end,
                              float* d_weight) {
  HWY_DYNAMIC_DISPATCH(run_backward)(rows, begin, end, d_weight);
}

}  // namespace headway::ops::cpu
#endif
