// Sigmoid gate by Highway, one pass each way. Not for: threads (cpu/gate.cpp).
#include "headway/ops/cpu/gate_kernels.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "headway/ops/cpu/gate_kernels.cpp"
#include <hwy/foreach_target.h>
// After foreach_target.
#include <algorithm>

#include "headway/ops/cpu/rows-inl.h"

HWY_BEFORE_NAMESPACE();
namespace headway::ops::cpu {
namespace HWY_NAMESPACE {
using namespace rows::HWY_NAMESPACE;  // NOLINT: the lanes of this target

// Heads whose scalar gates are evaluated together.
constexpr int64_t kHeads = 64;

/// σ(g) and σ(g)(1-σ(g)) of `count` <= kHeads head-wise gates.
struct HeadGates {
  float sigma[kHeads];
  float slope[kHeads];
};

template <class T>
HWY_INLINE void evaluate_gates(const T* gate, int64_t stride, int64_t count, HeadGates& gates) {
  const hn::CappedTag<float, 1> one;
  float* sigma = gates.sigma;
  float* slope = gates.slope;
  for (int64_t i = 0; i < count; ++i) store(one, load(one, gate + i * stride), sigma + i);
  for_lanes(count, [=](auto d, int64_t i) HEADWAY_LANES {
    const auto s = logistic(d, hn::LoadU(d, sigma + i));
    hn::StoreU(s.value, d, sigma + i);
    hn::StoreU(hn::Mul(s.value, s.complement), d, slope + i);
  });
}

template <class T>
HWY_INLINE const T* place(const void* base, const HeadStrides& strides, int64_t token,
                          int64_t head) {
  return static_cast<const T*>(base) + token * strides.token + head * strides.head;
}

template <class T>
HWY_INLINE void forward_head_wise(const GateRows& rows, int64_t token) {
  HeadGates gates;
  for (int64_t first = 0; first < rows.heads; first += kHeads) {
    const int64_t count = std::min(kHeads, rows.heads - first);
    const T* gate = place<T>(rows.gate, rows.gate_strides, token, first);
    evaluate_gates(gate, rows.gate_strides.head, count, gates);
    for (int64_t i = 0; i < count; ++i) {
      const T* x = place<T>(rows.x, rows.x_strides, token, first + i);
      T* y = static_cast<T*>(rows.y) + (token * rows.heads + first + i) * rows.channels;
      const float sigma = gates.sigma[i];
      for_lanes(rows.channels, [=](auto d, int64_t v) HEADWAY_LANES {
        store(d, hn::Mul(load(d, x + v), hn::Set(d, sigma)), y + v);
      });
    }
  }
}

template <class T>
HWY_INLINE void backward_head_wise(const GateRows& rows, int64_t token) {
  HeadGates gates;
  for (int64_t first = 0; first < rows.heads; first += kHeads) {
    const int64_t count = std::min(kHeads, rows.heads - first);
    const T* gate = place<T>(rows.gate, rows.gate_strides, token, first);
    evaluate_gates(gate, rows.gate_strides.head, count, gates);
    for (int64_t i = 0; i < count; ++i) {
      const T* x = place<T>(rows.x, rows.x_strides, token, first + i);
      const T* d_y = place<T>(rows.d_y, rows.d_y_strides, token, first + i);
      const int64_t head = token * rows.heads + first + i;
      T* d_x = static_cast<T*>(rows.d_x) + head * rows.channels;
      const float sigma = gates.sigma[i];
      const float dot = sum_over(rows.channels, [=](auto d, int64_t v) HEADWAY_LANES {
        const auto gradient = load(d, d_y + v);
        store(d, hn::Mul(gradient, hn::Set(d, sigma)), d_x + v);
        return hn::Mul(gradient, load(d, x + v));
      });
      const hn::CappedTag<float, 1> one;
      store(one, hn::Set(one, gates.slope[i] * dot), static_cast<T*>(rows.d_gate) + head);
    }
  }
}

template <class T>
HWY_INLINE void forward_element_wise(const GateRows& rows, int64_t token) {
  for (int64_t head = 0; head < rows.heads; ++head) {
    const T* x = place<T>(rows.x, rows.x_strides, token, head);
    const T* gate = place<T>(rows.gate, rows.gate_strides, token, head);
    T* y = static_cast<T*>(rows.y) + (token * rows.heads + head) * rows.channels;
    for_lanes(rows.channels, [=](auto d, int64_t v) HEADWAY_LANES {
      store(d, hn::Mul(load(d, x + v), logistic(d, load(d, gate + v)).value), y + v);
    });
  }
}

template <class T>
HWY_INLINE void backward_element_wise(const GateRows& rows, int64_t token) {
  for (int64_t head = 0; head < rows.heads; ++head) {
    const T* x = place<T>(rows.x, rows.x_strides, token, head);
    const T* gate = place<T>(rows.gate, rows.gate_strides, token, head);
    const T* d_y = place<T>(rows.d_y, rows.d_y_strides, token, head);
    const int64_t offset = (token * rows.heads + head) * rows.channels;
    T* d_x = static_cast<T*>(rows.d_x) + offset;
    T* d_gate = static_cast<T*>(rows.d_gate) + offset;
    for_lanes(rows.channels, [=](auto d, int64_t v) HEADWAY_LANES {
      const auto s = logistic(d, load(d, gate + v));
      const auto d_x_lanes = hn::Mul(load(d, d_y + v), s.value);
      store(d, hn::Mul(d_x_lanes, hn::Mul(s.complement, load(d, x + v))), d_gate + v);
      store(d, d_x_lanes, d_x + v);
    });
  }
}

template <class T>
HWY_INLINE void forward_tokens(const GateRows& rows, int64_t begin, int64_t end) {
  for (int64_t token = begin; token < end; ++token) {
    if (rows.head_wise) {
      forward_head_wise<T>(rows, token);
    } else {
      forward_element_wise<T>(rows, token);
    }
  }
}

template <class T>
HWY_INLINE void backward_tokens(const GateRows& rows, int64_t begin, int64_t end) {
  for (int64_t token = begin; token < end; ++token) {
    if (rows.head_wise) {
      backward_head_wise<T>(rows, token);
    } else {
      backward_element_wise<T>(rows, token);
    }
  }
}

void run_forward(const GateRows& rows, int64_t begin, int64_t end) {
  if (rows.element == Element::kFloat) return forward_tokens<float>(rows, begin, end);
  forward_tokens<BFloat16>(rows, begin, end);
}

void run_backward(const GateRows& rows, int64_t begin, int64_t end) {
  if (rows.element == Element::kFloat) return backward_tokens<float>(rows, begin, end);
  backward_tokens<BFloat16>(rows, begin, end);
}

}  // namespace HWY_NAMESPACE
}  // namespace headway::ops::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace headway::ops::cpu {

HWY_EXPORT(run_forward);
HWY_EXPORT(run_backward);

void gate_forward_tokens(const GateRows& rows, int64_t begin, int64_t end) {
  HWY_DYNAMIC_DISPATCH(run_forward)(rows, begin, end);
}

void gate_backward_tokens(const GateRows& rows, int64_t begin, int64_t end) {
  HWY_DYNAMIC_DISPATCH(run_backward)(rows, begin, end);
}

}  // namespace headway::ops::cpu
#endif
