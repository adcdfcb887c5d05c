// Rows of the causal convolution by Highway. Not for: threads or tensors (cpu/causal_conv.cpp).
#include "headway/ops/cpu/causal_conv_kernels.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "headway/ops/cpu/causal_conv_kernels.cpp"
#include <hwy/foreach_target.h>
// After foreach_target.
#include <algorithm>
#include <vector>

#include "headway/ops/cpu/rows-inl.h"

HWY_BEFORE_NAMESPACE();
namespace headway::ops::cpu {
namespace HWY_NAMESPACE {
using namespace rows::HWY_NAMESPACE;  // NOLINT: the lanes of this target

constexpr int64_t kStrip = 256;

/// Rows under the taps of token `t`, the current token last.
template <class T>
HWY_INLINE void find_taps(const ConvRows& r, int64_t t, const T** taps) {
  const int64_t past = r.taps - 1, n = r.sequence[t], first = r.cu[n];
  for (int64_t j = 0; j < r.taps; ++j) {
    const int64_t from = t - past + j;
    if (from >= first) {
      taps[j] = static_cast<const T*>(r.x) + from * r.x_stride;
    } else if (r.state != nullptr) {
      taps[j] = static_cast<const T*>(r.state) + (n * past + past + from - first) * r.channels;
    } else {
      taps[j] = static_cast<const T*>(r.zeros);
    }
  }
}

/// The sum before the activation of channel c + lanes.
template <int kTaps, class T, class D>
HWY_INLINE hn::Vec<D> window_sum(D d, const ConvRows& r, const T* const* taps, int64_t c) {
  auto sum = r.bias == nullptr ? hn::Zero(d) : hn::LoadU(d, r.bias + c);
  const int64_t count = kTaps > 0 ? kTaps : r.taps;
  for (int64_t j = 0; j < count; ++j) {
    sum = hn::MulAdd(hn::LoadU(d, r.weight + j * r.channels + c), load(d, taps[j] + c), sum);
  }
  return sum;
}

template <int kTaps, class T>
HWY_INLINE void forward_row(const ConvRows& r, const T* const* taps, T* out) {
  if (r.silu) {
    for_lanes(r.channels, [&](auto d, int64_t c) HEADWAY_LANES {
      const auto sum = window_sum<kTaps>(d, r, taps, c);
      store(d, hn::Mul(sum, logistic(d, sum).value), out + c);
    });
  } else {
    for_lanes(r.channels, [&](auto d, int64_t c) HEADWAY_LANES {
      store(d, window_sum<kTaps>(d, r, taps, c), out + c);
    });
  }
}

template <class T>
HWY_INLINE void forward(const ConvRows& r, int64_t begin, int64_t end, T* out) {
  std::vector<const T*> taps(r.taps);
  for (int64_t t = begin; t < end; ++t) {
    find_taps(r, t, taps.data());
    if (r.taps == 4) {
      forward_row<4>(r, taps.data(), out + t * r.channels);
    } else {
      forward_row<0>(r, taps.data(), out + t * r.channels);
    }
  }
}

void run_forward(const ConvRows& rows, int64_t begin, int64_t end, void* out) {
  if (rows.element == Element::kFloat) {
    forward(rows, begin, end, static_cast<float*>(out));
  } else {
    forward(rows, begin, end, static_cast<BFloat16*>(out));
  }
}

/// Channels [first, first + count).
struct Strip {
  int64_t first, count;
};

/// d_sum [count] of token t: the gradient by the sum before the activation.
template <class T>
HWY_INLINE void row_gradient(const ConvBackwardRows& b, const T* const* taps, int64_t t,
                             Strip strip, float* d_sum) {
  const ConvRows& r = b.forward;
  const T* d_out = static_cast<const T*>(b.d_out) + t * b.d_out_stride + strip.first;
  for_lanes(strip.count, [&](auto d, int64_t i) HEADWAY_LANES {
    auto gradient = load(d, d_out + i);
    if (r.silu) {
      const auto sum = window_sum<0>(d, r, taps, strip.first + i);
      const auto sigma = logistic(d, sum);
      const auto slope = hn::Mul(sigma.value, hn::MulAdd(sum, sigma.complement, hn::Set(d, 1.0f)));
      gradient = hn::Mul(gradient, slope);
    }
    hn::StoreU(gradient, d, d_sum + i);
  });
}

/// Adds d_sum·tap to the weight's sums and d_sum to the bias's.
template <class T>
HWY_INLINE void add_weights(const ConvBackwardRows& b, const T* const* taps, Strip strip,
                            const float* d_sum) {
  const ConvRows& r = b.forward;
  for (int64_t j = 0; j < r.taps; ++j) {
    float* to = b.d_weight + j * r.channels + strip.first;
    const T* tap = taps[j] + strip.first;
    for_lanes(strip.count, [=](auto d, int64_t i) HEADWAY_LANES {
      hn::StoreU(hn::MulAdd(hn::LoadU(d, d_sum + i), load(d, tap + i), hn::LoadU(d, to + i)), d,
                 to + i);
    });
  }
  if (b.d_bias == nullptr) return;
  float* to = b.d_bias + strip.first;
  for_lanes(strip.count, [=](auto d, int64_t i) HEADWAY_LANES {
    hn::StoreU(hn::Add(hn::LoadU(d, d_sum + i), hn::LoadU(d, to + i)), d, to + i);
  });
}

/// d_x of token t: tap j of the token P-j later, as far as its sequence goes. `d_sums` begins at
/// token `begin`.
template <class T>
HWY_INLINE void input_gradient(const ConvBackwardRows& b, int64_t begin, int64_t t, Strip strip,
                               const float* d_sums) {
  const ConvRows& r = b.forward;
  const int64_t past = r.taps - 1, end = r.cu[r.sequence[t] + 1];
  const int64_t ahead = std::min(past, end - 1 - t);
  T* d_x = static_cast<T*>(b.d_x) + t * r.channels + strip.first;
  const float* from = d_sums + (t - begin) * kStrip;
  for_lanes(strip.count, [&](auto d, int64_t i) HEADWAY_LANES {
    auto sum = hn::Zero(d);
    for (int64_t a = 0; a <= ahead; ++a) {
      const float* weight = r.weight + (past - a) * r.channels + strip.first + i;
      sum = hn::MulAdd(hn::LoadU(d, weight), hn::LoadU(d, from + a * kStrip + i), sum);
    }
    store(d, sum, d_x + i);
  });
}

template <class T>
HWY_INLINE void backward(const ConvBackwardRows& b, int64_t begin, int64_t end) {
  const ConvRows& r = b.forward;
  std::vector<const T*> taps(r.taps);
  // Rows behind the block whose windows reach into it.
  const int64_t last = std::min(end + r.taps - 1, r.cu[r.sequence[end - 1] + 1]);
  for (int64_t first = 0; first < r.channels; first += kStrip) {
    const Strip strip{first, std::min(kStrip, r.channels - first)};
    for (int64_t t = begin; t < last; ++t) {
      find_taps(r, t, taps.data());
      float* d_sum = b.scratch + (t - begin) * kStrip;
      row_gradient(b, taps.data(), t, strip, d_sum);
      if (t < end) add_weights(b, taps.data(), strip, d_sum);
    }
    for (int64_t t = begin; t < end; ++t) input_gradient<T>(b, begin, t, strip, b.scratch);
  }
}

void run_backward(const ConvBackwardRows& rows, int64_t begin, int64_t end) {
  if (rows.forward.element == Element::kFloat) {
    backward<float>(rows, begin, end);
  } else {
    backward<BFloat16>(rows, begin, end);
  }
}

template <class T>
HWY_INLINE void state_backward(const ConvBackwardRows& b, int64_t n, float* d_state) {
  const ConvRows& r = b.forward;
  const int64_t past = r.taps - 1, first = r.cu[n], length = r.cu[n + 1] - first;
  std::vector<const T*> taps(r.taps);
  std::vector<float> d_sum(r.channels);
  for (int64_t i = 0; i < std::min(past, length); ++i) {
    find_taps(r, first + i, taps.data());
    row_gradient(b, taps.data(), first + i, {0, r.channels}, d_sum.data());
    for (int64_t p = i; p < past; ++p) {
      const float *from = d_sum.data(), *weight = r.weight + (p - i) * r.channels;
      float* to = d_state + p * r.channels;
      for_lanes(r.channels, [=](auto d, int64_t c) HEADWAY_LANES {
        const auto sum =
            hn::MulAdd(hn::LoadU(d, weight + c), hn::LoadU(d, from + c), hn::LoadU(d, to + c));
        hn::StoreU(sum, d, to + c);
      });
    }
  }
}

void run_state_backward(const ConvBackwardRows& rows, int64_t n, float* d_state) {
  if (rows.forward.element == Element::kFloat) {
    state_backward<float>(rows, n, d_state);
  } else {
    state_backward<BFloat16>(rows, n, d_state);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace headway::ops::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace headway::ops::cpu {

HWY_EXPORT(run_forward);
HWY_EXPORT(run_backward);
HWY_EXPORT(run_state_backward);

void conv_forward_rows(const ConvRows& rows, int64_t begin, int64_t end, void* out) {
  HWY_DYNAMIC_DISPATCH(run_forward)(rows, begin, end, out);
}

int64_t conv_strip() { return 256; }

void conv_backward_rows(const ConvBackwardRows& rows, int64_t begin, int64_t end) {
  HWY_DYNAMIC_DISPATCH(run_backward)(rows, begin, end);
}

void conv_state_backward(const ConvBackwardRows& rows, int64_t n, float* d_state) {
  HWY_DYNAMIC_DISPATCH(run_state_backward)(rows, n, d_state);
}

}  // namespace headway::ops::cpu
#endif
