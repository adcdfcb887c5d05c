// See delta_rule_small_kernels.h; plain loops that the compiler vectorises for every Highway
// target.
// Not for: tensors or threads.
#include "headway/ops/cpu/delta_rule_small_kernels.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "headway/ops/cpu/delta_rule_small_kernels.cpp"
#include <hwy/foreach_target.h>
// After foreach_target.
#include <algorithm>

#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace headway::ops::cpu {
namespace HWY_NAMESPACE {

void run_small_forward(const SmallDeltaChunk& c) {
  const int64_t keys = c.key_dim, width = c.value_dim;
  for (int64_t t = 0; t < c.n; ++t) {
    const double *q = c.q + t * keys, *k = c.k + t * keys, *v = c.v + t * width;
    const double* a = c.decay + t * c.channels;
    double* error = c.errors + t * width;
    std::copy_n(v, width, error);
    for (int64_t i = 0; i < keys; ++i) {
      double* row = c.state + i * width;
      const double factor = a[c.channels == 1 ? 0 : i], key = k[i];
      for (int64_t j = 0; j < width; ++j) {
        row[j] *= factor;
        error[j] -= key * row[j];
      }
    }
    if (c.decayed != nullptr) std::copy_n(c.state, keys * width, c.decayed + t * keys * width);
    double* out = c.out == nullptr ? nullptr : c.out + t * width;
    if (out != nullptr) std::fill_n(out, width, 0.0);
    for (int64_t i = 0; i < keys; ++i) {
      double* row = c.state + i * width;
      const double key = c.beta[t] * k[i], query = q[i];
      for (int64_t j = 0; j < width; ++j) row[j] += key * error[j];
      for (int64_t j = 0; out != nullptr && j < width; ++j) out[j] += query * row[j];
    }
  }
}

/// Through S_t and o_t: adds to d_state, d_q, d_k; gives the gradient by u = β e.
HWY_INLINE void write_backward(const SmallDeltaBackward& b, int64_t t, const double* u,
                               double* d_u) {
  const SmallDeltaChunk& c = b.forward;
  const int64_t keys = c.key_dim, width = c.value_dim;
  const double *d_out = b.d_out + t * width, *decayed = c.decayed + t * keys * width;
  double along = 0.0;  // u·do
  for (int64_t j = 0; j < width; ++j) along += u[j] * d_out[j];
  std::fill_n(d_u, width, 0.0);
  for (int64_t i = 0; i < keys; ++i) {
    const double query = c.q[t * keys + i], key = c.k[t * keys + i];
    const double* row = decayed + i * width;
    double* d_row = b.d_state + i * width;
    double d_query = key * along, d_key = 0.0;
    for (int64_t j = 0; j < width; ++j) {
      d_row[j] += query * d_out[j];
      d_query += row[j] * d_out[j];
      d_key += d_row[j] * u[j];
      d_u[j] += key * d_row[j];
    }
    b.d_q[t * keys + i] += d_query;
    b.d_k[t * keys + i] += d_key;
  }
}

/// Through e_t and D_t: d_v holds the gradient by e.
HWY_INLINE void read_backward(const SmallDeltaBackward& b, int64_t t) {
  const SmallDeltaChunk& c = b.forward;
  const int64_t keys = c.key_dim, width = c.value_dim;
  const double *d_error = b.d_v + t * width, *decayed = c.decayed + t * keys * width;
  double* d_log = b.d_log_decay + t * c.channels;
  std::fill_n(d_log, c.channels, 0.0);
  for (int64_t i = 0; i < keys; ++i) {
    const int64_t channel = c.channels == 1 ? 0 : i;
    const double key = c.k[t * keys + i], factor = c.decay[t * c.channels + channel];
    const double* row = decayed + i * width;
    double* d_row = b.d_state + i * width;
    double d_key = 0.0, d_factor = 0.0;
    for (int64_t j = 0; j < width; ++j) {
      d_key -= row[j] * d_error[j];
      d_row[j] -= key * d_error[j];
      d_factor += d_row[j] * row[j];
      d_row[j] *= factor;
    }
    b.d_k[t * keys + i] += d_key;
    d_log[channel] += d_factor;
  }
}

void run_small_backward(const SmallDeltaBackward& b) {
  const SmallDeltaChunk& c = b.forward;
  const int64_t width = c.value_dim;
  double *u = b.update, *d_u = b.update + width;
  for (int64_t t = c.n - 1; t >= 0; --t) {
    const double beta = c.beta[t];
    const double* error = c.errors + t * width;
    for (int64_t j = 0; j < width; ++j) u[j] = beta * error[j];
    write_backward(b, t, u, d_u);
    double d_beta = 0.0;
    for (int64_t j = 0; j < width; ++j) {
      d_beta += d_u[j] * error[j];
      b.d_v[t * width + j] = beta * d_u[j];
    }
    b.d_beta[t] = d_beta;
    read_backward(b, t);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace headway::ops::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace headway::ops::cpu {

HWY_EXPORT(run_small_forward);
HWY_EXPORT(run_small_backward);

void small_delta_forward(const SmallDeltaChunk& chunk) {
  HWY_DYNAMIC_DISPATCH(run_small_forward)(chunk);
}

void small_delta_backward(const SmallDeltaBackward& backward) {
  HWY_DYNAMIC_DISPATCH(run_small_backward)(backward);
}

}  // namespace headway::ops::cpu
#endif
