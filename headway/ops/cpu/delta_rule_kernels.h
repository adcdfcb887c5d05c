// Element-wise and triangular loops of the chunked delta rule on raw float32 blocks, and the step
// of a single token. Not for: matrix products (block_gemm.h), threads or tensors (delta_rule.cpp).
// Legend: n tokens of a chunk, K key dim, V value dim; blocks are contiguous [rows, width].
#pragma once

#include <cstdint>

#include "headway/ops/cpu/element.h"

namespace headway::ops::cpu {

/// Rows of elements, `stride` elements apart.
struct ElementRows {
  Element element = Element::kFloat;
  void* data = nullptr;
  int64_t stride = 0;

  ElementRows at(int64_t offset) const {
    const int64_t size = element == Element::kFloat ? 4 : 2;
    return {element, static_cast<char*>(data) + offset * size, stride};
  }
};

/// to [rows,width] = float32 of `from`.
void delta_load(const ElementRows& from, int64_t rows, int64_t width, float* to);
/// `to` = rounded `from` [rows,width].
void delta_store(const float* from, int64_t rows, int64_t width, const ElementRows& to);

/// x [rows,width] <- x·ρ·scale with ρ [rows] = (Σx²+eps)^-½, kept.
void delta_normalise(float* x, int64_t rows, int64_t width, float eps, float scale, float* rho);
/// d <- ρ·scale·(d - y(y·d)) with y = x / scale, x as delta_normalise left it.
void delta_normalise_backward(const float* x, int64_t rows, int64_t width, float scale,
                              const float* rho, float* d);

/// Decay of one head in a chunk, K = 1 for a decay per head: e^G, e^(G_n-G) [n,K], and [n,n] D for
/// K = 1.
struct DeltaDecay {
  int64_t n = 0;
  int64_t channels = 1;
  const float* log_decay = nullptr;  // [n,K]
  float* from_start = nullptr;       // [n,K]
  float* to_end = nullptr;           // [n,K]
  float* pairs = nullptr;            // [n,n], 0 above the diagonal; K = 1 only
  float* scratch = nullptr;          // [n,K]
};
void delta_decay(const DeltaDecay& decay);

/// Scores of a chunk: keys [n,n] = tril₋₁(k·k ∘ D), scores [n,n] = tril(q·k ∘ D), zeros elsewhere.
struct DeltaScores {
  DeltaDecay decay;
  int64_t width = 0;           // K of q and k
  const float* q = nullptr;    // [n,width]
  const float* k = nullptr;    // [n,width]
  const float* q_k = nullptr;  // [n,n] products of q and k; decay per head only
  const float* k_k = nullptr;  // [n,n]
  float* keys = nullptr;
  float* scores = nullptr;
};
void delta_scores(const DeltaScores& scores);

/// Way back of delta_scores for given d_keys, d_scores [n,n] (entries outside the triangles are not
/// read). Per head: adds them times D to d_k_k and d_q_k. Per channel: adds to d_q, d_k [n,width].
/// Both add the decay's part to d_sums [n,K], the gradient by G.
struct DeltaScoresBackward {
  DeltaScores forward;
  const float* d_keys = nullptr;
  const float* d_scores = nullptr;
  float* d_k_k = nullptr;
  float* d_q_k = nullptr;
  float* d_q = nullptr;
  float* d_k = nullptr;
  float* d_sums = nullptr;
};
void delta_scores_backward(const DeltaScoresBackward& backward);

/// to = x [n,width] times factor [n,1] or [n,width].
void delta_scale_rows(const float* x, const float* factor, int64_t channels, int64_t n,
                      int64_t width, float* to);
/// x <- factor·x with one factor a row ([rows]).
void delta_scale_each(float* x, const float* factor, int64_t rows, int64_t width);

/// Way back of a = x∘factor: d_x += d_a∘factor and d_sums += sign·(d_a∘a), summed over the width
/// for a decay per head. `total` [channels] gets += d_a∘a over all rows when not null.
struct DeltaFactorBackward {
  const float* a = nullptr;       // [n,width]
  const float* d_a = nullptr;     // [n,width]
  const float* factor = nullptr;  // [n,channels]
  int64_t channels = 1;
  int64_t n = 0;
  int64_t width = 0;
  float sign = 1.0f;
  float* d_x = nullptr;
  float* d_sums = nullptr;
  float* total = nullptr;
};
void delta_factor_backward(const DeltaFactorBackward& backward);

/// x [n,V] <- (I + diag(β)·tril₋₁(keys))⁻¹ x, or its transpose.
void delta_solve(const float* keys, const float* beta, int64_t n, int64_t value_dim, float* x);
void delta_solve_transposed(const float* keys, const float* beta, int64_t n, int64_t value_dim,
                            float* x);

/// out [rows] = Σ_j a_ij b_ij over `width`; rows of a and b lie `stride` apart; adds.
void delta_add_row_dots(const float* a, const float* b, int64_t rows, int64_t width, float* out);
/// The same over the part left of the diagonal: out_i += Σ_{j<i} a_ij b_ij, [n,n].
void delta_add_lower_dots(const float* a, const float* b, int64_t n, float* out);

/// total[c] += factor[c]·Σ_v d_state[c,v]·state[c,v], or all of it to total[0] for one channel.
void delta_state_decay_backward(const float* state, const float* d_state, const float* factor,
                                int64_t channels, int64_t key_dim, int64_t value_dim, float* total);
/// state [K,V] <- diag(factor)·state.
void delta_scale_state(const float* factor, int64_t channels, int64_t key_dim, int64_t value_dim,
                       float* state);

/// One token of one head, in place on state [K,V]: q, k float32 [K] as delta_normalise leaves them.
struct DeltaStep {
  const float* q = nullptr;
  const float* k = nullptr;
  const float* v = nullptr;          // [V]
  const float* log_decay = nullptr;  // [channels]
  int64_t channels = 1;
  float beta = 0.0f;
  int64_t key_dim = 0;
  int64_t value_dim = 0;
  float* state = nullptr;
  float* update = nullptr;  // scratch [V + K]
  float* out = nullptr;     // [V]
};
void delta_step(const DeltaStep& step);

}  // namespace headway::ops::cpu
