// Inputs of the gated delta rule as the plain kernels read them: in the dtype of the sums, head
// first, key heads repeated. Not for: the fused CPU kernel.
// Legend: H value heads, G key heads, S tokens of one sequence, K key dim, V value dim.
#pragma once

#include <ATen/core/Tensor.h>

#include "headway/ops/internal/delta_rule_kernel.h"

namespace headway::ops::reference {

/// x·ρ with ρ = (Σx²+eps)^-½, and the way back.
struct Normalised {
  at::Tensor y;
  at::Tensor rho;  // […,1]; undefined: nothing was divided
};
Normalised l2_normalised(const at::Tensor& x, const DeltaRuleOptions& options);
/// dx = ρ(dy - y(y·dy)).
at::Tensor l2_backward(const Normalised& norm, const at::Tensor& d_y);

/// All tokens, head first.
struct DeltaHeads {
  explicit DeltaHeads(const internal::DeltaRuleArguments& arguments);

  /// Gradients by head-first ones of the repeated q, k and of v, g, beta, in the inputs' dtypes.
  internal::DeltaRuleGradients gradients(const internal::DeltaRuleArguments& arguments,
                                         const DeltaHeads& d) const;
  /// Zeros of the same shapes, to collect gradients in.
  DeltaHeads zeros() const;

  Normalised q_norm, k_norm;  // [T,G,K]
  at::Tensor q, k;            // [H,T,K], q times scale
  at::Tensor v;               // [H,T,V]
  at::Tensor decay;           // [H,T,1] or [H,T,K]
  at::Tensor beta;            // [H,T]

 private:
  DeltaHeads() = default;
};

/// [N,H,K,V] of zeros or a copy of the initial state, in the dtype of the sums.
at::Tensor first_states(const internal::DeltaRuleArguments& arguments);

}  // namespace headway::ops::reference
