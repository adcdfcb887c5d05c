// Token-by-token delta rule of one head over one chunk, in double, for states that fit a few cache
// lines. Not for: large states (delta_rule_kernels.h), tensors or threads.
// Legend: K key dim, V value dim, n tokens of a chunk.
#pragma once

#include <cstdint>

namespace headway::ops::cpu {

/// Rows of a chunk; q and k as the recurrence takes them (normalised, q scaled).
///   D_t = diag(a_t) S_{t-1};  e_t = v_t - D_tᵀ k_t;  S_t = D_t + k_t (β_t e_t)ᵀ;  o_t = S_tᵀ q_t
struct SmallDeltaChunk {
  int64_t n = 0, key_dim = 0, value_dim = 0;
  int64_t channels = 1;           // of the decay: 1 or K
  const double* q = nullptr;      // [n,K]
  const double* k = nullptr;      // [n,K]
  const double* v = nullptr;      // [n,V]
  const double* decay = nullptr;  // a [n,channels]
  const double* beta = nullptr;   // [n]
  double* state = nullptr;        // S [K,V], in place
  double* errors = nullptr;       // e [n,V]
  double* decayed = nullptr;      // D [n,K,V]; null: not wanted
  double* out = nullptr;          // o [n,V]; null: not wanted
};
void small_delta_forward(const SmallDeltaChunk& chunk);

/// Gradients of a chunk whose forward kept `errors` and `decayed`.
struct SmallDeltaBackward {
  SmallDeltaChunk forward;
  const double* d_out = nullptr;  // [n,V]
  double* d_state = nullptr;      // [K,V] of the last state, becomes that of the first; in place
  double* d_q = nullptr;          // [n,K], added to
  double* d_k = nullptr;          // [n,K], added to
  double* d_v = nullptr;          // [n,V]
  double* d_log_decay = nullptr;  // [n,channels]
  double* d_beta = nullptr;       // [n]
  double* update = nullptr;       // scratch [2V]
};
void small_delta_backward(const SmallDeltaBackward& backward);

}  // namespace headway::ops::cpu
