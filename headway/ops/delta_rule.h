// The gated delta rule over packed sequences: a state per head that decays, is corrected towards
// each value and read by each query (Gated DeltaNet; with a decay per channel, Kimi Delta
// Attention). Not for: projections, convolution, gates or output norm (nn composes those).
// Legend: T tokens, N sequences, G key heads, H value heads, K key dim, V value dim.
#pragma once

#include <cstdint>
#include <vector>

#include <ATen/core/Tensor.h>

#include "headway/ops/sequences.h"

namespace headway::ops {

struct DeltaRuleInputs {
  at::Tensor q_TGK;
  at::Tensor k_TGK;
  at::Tensor v_THV;
  at::Tensor log_decay;           // g: [T,H], or [T,H,K] for a decay per key channel
  at::Tensor beta_TH;             // strength of the correction
  at::Tensor initial_state_NHKV;  // undefined: zeros
};

struct DeltaRuleOptions {
  double scale = 1.0;    // multiplies q, after the normalisation
  bool l2_norm = false;  // q, k <- x·(Σ x² + l2_eps)^-½
  double l2_eps = 1e-6;
};

struct DeltaRuleResult {
  at::Tensor out_THV;
  at::Tensor final_state_NHKV;
};

/// Per sequence and head, token by token, from the initial state:
///   S <- diag(e^g) S;  d = β(v - Sᵀk);  S <- S + k dᵀ;  out = scale · Sᵀq
/// Shapes: q, k [T,G,K], v [T,H,V], log_decay [T,H] or [T,H,K], beta [T,H], initial_state [N,H,K,V]
///         or undefined -> out [T,H,V], final_state [N,H,K,V]; H % G == 0, value head h uses key
///         head h / (H/G). Last dims of q, k, v contiguous; rows and heads may be strided. A
///         sequence without tokens keeps its state. Only cu_q of `sequences` is used.
/// Units:  g is a natural logarithm per step, normally <= 0 (above 88 the decay saturates).
/// Dtype:  q, k, v alike, float32, float64, bfloat16 or float16; log_decay, beta of that dtype or
///         float32 (float64 for float64); states float32 (float64 for float64). Sums in fp32
///         (fp64). Result in v's dtype. Grad: every input and the initial state, by hand; saves the
///         inputs and the state at the start of every 64 tokens. Deterministic, whatever the
///         threads.
/// Cost:   O(T·H·K·V) in chunks of 64 tokens; memory beside the results: T/64·H·K·V when gradients
///         are recorded.
/// Errors: ShapeError; ConfigError (options); UnsupportedError if a forced kernel
///         ("gated_delta_rule") cannot run.
/// Source: Yang, Kautz & Hatamizadeh 2024, Gated Delta Networks, eq. 10 and section 3.3; Kimi Team
///         2025, Kimi Linear (a decay per channel). Test: tests/kernels/delta_rule_test.cpp
DeltaRuleResult gated_delta_rule(const DeltaRuleInputs& inputs, const Sequences& sequences,
                                 const DeltaRuleOptions& options);

/// The same without gradients, continuing states in place: sequence n starts from and leaves
/// states[slots[n]]; a slot of -1 starts from zeros and leaves nothing. For decoding.
/// Shapes: as above, initial_state undefined; states [M,H,K,V] contiguous -> [T,H,V].
/// Errors: as above; ShapeError for a slot outside [-1, M) or given twice.
/// Test:   tests/kernels/delta_rule_test.cpp
at::Tensor gated_delta_step(const DeltaRuleInputs& inputs, const at::Tensor& states_MHKV,
                            const std::vector<int64_t>& slots, const Sequences& sequences,
                            const DeltaRuleOptions& options);

}  // namespace headway::ops
