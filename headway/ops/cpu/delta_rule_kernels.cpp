// Loops of the chunked delta rule by Highway. Not for: matrix products, threads or tensors.
#include "headway/ops/cpu/delta_rule_kernels.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "headway/ops/cpu/delta_rule_kernels.cpp"
#include <hwy/foreach_target.h>
// After foreach_target.
#include <algorithm>
#include <cmath>

#include "headway/ops/cpu/delta_rule_scores-inl.h"

HWY_BEFORE_NAMESPACE();
namespace headway::ops::cpu {
namespace HWY_NAMESPACE {
using namespace rows::HWY_NAMESPACE;  // NOLINT: the lanes of this target

template <class T>
HWY_INLINE void load_rows(const T* from, int64_t stride, int64_t rows, int64_t width, float* to) {
  for (int64_t r = 0; r < rows; ++r) {
    const T* row = from + r * stride;
    float* out = to + r * width;
    for_lanes(width, [=](auto d, int64_t i) HEADWAY_LANES { store(d, load(d, row + i), out + i); });
  }
}

template <class T>
HWY_INLINE void store_rows(const float* from, int64_t rows, int64_t width, T* to, int64_t stride) {
  for (int64_t r = 0; r < rows; ++r) {
    const float* row = from + r * width;
    T* out = to + r * stride;
    for_lanes(width, [=](auto d, int64_t i) HEADWAY_LANES { store(d, load(d, row + i), out + i); });
  }
}

void run_load(const ElementRows& from, int64_t rows, int64_t width, float* to) {
  if (from.element == Element::kFloat) {
    load_rows(static_cast<const float*>(from.data), from.stride, rows, width, to);
  } else {
    load_rows(static_cast<const BFloat16*>(from.data), from.stride, rows, width, to);
  }
}

void run_store(const float* from, int64_t rows, int64_t width, const ElementRows& to) {
  if (to.element == Element::kFloat) {
    store_rows(from, rows, width, static_cast<float*>(to.data), to.stride);
  } else {
    store_rows(from, rows, width, static_cast<BFloat16*>(to.data), to.stride);
  }
}

void run_normalise(float* x, int64_t rows, int64_t width, float eps, float scale, float* rho) {
  for (int64_t r = 0; r < rows; ++r) {
    float* row = x + r * width;
    rho[r] = 1.0f / std::sqrt(dot(row, row, width) + eps);
    scale_row(rho[r] * scale, row, width, row);
  }
}

void run_normalise_backward(const float* x, int64_t rows, int64_t width, float scale,
                            const float* rho, float* d) {
  // y = x/scale and d is by x: ρ·scale·(d - y(y·d)) = ρ·scale·d - x·(ρ/scale)(x·d).
  for (int64_t r = 0; r < rows; ++r) {
    const float* row = x + r * width;
    float* out = d + r * width;
    const float keep = rho[r] * scale;
    const float along = scale == 0.0f ? 0.0f : rho[r] / scale * dot(row, out, width);
    for_lanes(width, [=](auto tag, int64_t i) HEADWAY_LANES {
      const auto kept = hn::Mul(hn::Set(tag, keep), hn::LoadU(tag, out + i));
      hn::StoreU(hn::NegMulAdd(hn::Set(tag, along), hn::LoadU(tag, row + i), kept), tag, out + i);
    });
  }
}

HWY_INLINE void multiply_rows(const float* x, const float* y, int64_t width, float* to) {
  for_lanes(width, [=](auto d, int64_t i) HEADWAY_LANES {
    hn::StoreU(hn::Mul(hn::LoadU(d, x + i), hn::LoadU(d, y + i)), d, to + i);
  });
}

void run_scale_rows(const float* x, const float* factor, int64_t channels, int64_t n, int64_t width,
                    float* to) {
  if (channels > 1 || width == 1) return multiply_rows(x, factor, n * width, to);
  for (int64_t i = 0; i < n; ++i) scale_row(factor[i], x + i * width, width, to + i * width);
}

void run_scale_each(float* x, const float* factor, int64_t rows, int64_t width) {
  for (int64_t i = 0; i < rows; ++i) scale_row(factor[i], x + i * width, width, x + i * width);
}

void run_factor_backward(const DeltaFactorBackward& b) {
  const int64_t width = b.width;
  for (int64_t i = 0; i < b.n; ++i) {
    const float *a = b.a + i * width, *d_a = b.d_a + i * width;
    float* d_x = b.d_x + i * width;
    if (b.channels == 1) {
      const float sum = dot(a, d_a, width);
      b.d_sums[i] += b.sign * sum;
      if (b.total != nullptr) b.total[0] += sum;
      add_scaled(b.factor[i], d_a, width, d_x);
      continue;
    }
    const float* factor = b.factor + i * width;
    float *d_sums = b.d_sums + i * width, *total = b.total;
    const float sign = b.sign;
    for_lanes(width, [=](auto d, int64_t j) HEADWAY_LANES {
      const auto gradient = hn::LoadU(d, d_a + j);
      const auto product = hn::Mul(gradient, hn::LoadU(d, a + j));
      hn::StoreU(hn::MulAdd(hn::Set(d, sign), product, hn::LoadU(d, d_sums + j)), d, d_sums + j);
      if (total != nullptr) hn::StoreU(hn::Add(product, hn::LoadU(d, total + j)), d, total + j);
      hn::StoreU(hn::MulAdd(gradient, hn::LoadU(d, factor + j), hn::LoadU(d, d_x + j)), d, d_x + j);
    });
  }
}

/// x_i -= Σ_j c_j x_j over rows j in [first, last), c_j = factor(j); two rows of x a pass.
template <class Factor>
HWY_INLINE void subtract_rows(float* x_i, const float* x, int64_t first, int64_t last,
                              int64_t width, const Factor& factor) {
  int64_t j = first;
  for (; j + 4 <= last; j += 4) {
    const float c0 = factor(j), c1 = factor(j + 1), c2 = factor(j + 2), c3 = factor(j + 3);
    const float* row = x + j * width;
    for_lanes(width, [=](auto d, int64_t v) HEADWAY_LANES {
      auto sum = hn::LoadU(d, x_i + v);
      sum = hn::NegMulAdd(hn::Set(d, c0), hn::LoadU(d, row + v), sum);
      sum = hn::NegMulAdd(hn::Set(d, c1), hn::LoadU(d, row + width + v), sum);
      sum = hn::NegMulAdd(hn::Set(d, c2), hn::LoadU(d, row + 2 * width + v), sum);
      sum = hn::NegMulAdd(hn::Set(d, c3), hn::LoadU(d, row + 3 * width + v), sum);
      hn::StoreU(sum, d, x_i + v);
    });
  }
  for (; j < last; ++j) add_scaled(-factor(j), x + j * width, width, x_i);
}

void run_solve(const float* keys, const float* beta, int64_t n, int64_t width, float* x) {
  for (int64_t i = 1; i < n; ++i) {
    const float* row = keys + i * n;
    const float factor = beta[i];
    subtract_rows(x + i * width, x, 0, i, width, [=](int64_t j) { return factor * row[j]; });
  }
}

void run_solve_transposed(const float* keys, const float* beta, int64_t n, int64_t width,
                          float* x) {
  for (int64_t i = n - 2; i >= 0; --i) {
    subtract_rows(x + i * width, x, i + 1, n, width,
                  [=](int64_t j) { return beta[j] * keys[j * n + i]; });
  }
}

void run_row_dots(const float* a, const float* b, int64_t rows, int64_t width, float* out) {
  for (int64_t i = 0; i < rows; ++i) out[i] += dot(a + i * width, b + i * width, width);
}

void run_lower_dots(const float* a, const float* b, int64_t n, float* out) {
  for (int64_t i = 1; i < n; ++i) out[i] += dot(a + i * n, b + i * n, i);
}

void run_state_decay_backward(const float* state, const float* d_state, const float* factor,
                              int64_t channels, int64_t key_dim, int64_t width, float* total) {
  for (int64_t c = 0; c < key_dim; ++c) {
    const int64_t to = channels == 1 ? 0 : c;
    total[to] += factor[to] * dot(state + c * width, d_state + c * width, width);
  }
}

void run_scale_state(const float* factor, int64_t channels, int64_t key_dim, int64_t width,
                     float* state) {
  if (channels == 1) return scale_row(factor[0], state, key_dim * width, state);
  for (int64_t c = 0; c < key_dim; ++c)
    scale_row(factor[c], state + c * width, width, state + c * width);
}

void run_step(const DeltaStep& s) {
  const int64_t width = s.value_dim;
  float *update = s.update, *out = s.out;
  float* factor = s.update + width;
  for (int64_t c = 0; c < s.channels; ++c) factor[c] = exp_of(s.log_decay[c]);
  std::fill_n(update, width, 0.0f);
  std::fill_n(out, width, 0.0f);
  for (int64_t c = 0; c < s.key_dim; ++c) {
    const float decay = factor[s.channels == 1 ? 0 : c];
    add_scaled(decay * s.k[c], s.state + c * width, width, update);
  }
  const float beta = s.beta;
  const float* v = s.v;
  for_lanes(width, [=](auto d, int64_t i) HEADWAY_LANES {
    const auto error = hn::Sub(hn::LoadU(d, v + i), hn::LoadU(d, update + i));
    hn::StoreU(hn::Mul(hn::Set(d, beta), error), d, update + i);
  });
  for (int64_t c = 0; c < s.key_dim; ++c) {
    const float decay = factor[s.channels == 1 ? 0 : c], k = s.k[c], q = s.q[c];
    float* row = s.state + c * width;
    for_lanes(width, [=](auto d, int64_t i) HEADWAY_LANES {
      auto state = hn::Mul(hn::Set(d, decay), hn::LoadU(d, row + i));
      state = hn::MulAdd(hn::Set(d, k), hn::LoadU(d, update + i), state);
      hn::StoreU(state, d, row + i);
      hn::StoreU(hn::MulAdd(hn::Set(d, q), state, hn::LoadU(d, out + i)), d, out + i);
    });
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace headway::ops::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include "headway/ops/cpu/delta_rule_dispatch.h"
#endif
