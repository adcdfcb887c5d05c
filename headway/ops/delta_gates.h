// The maps around the delta rule that hold no state: decay from its logits, unit-length vectors.
// Not for: the rule itself (delta_rule.h).
// Legend: T tokens, H heads, K key channels.
#pragma once

#include <ATen/core/Tensor.h>

namespace headway::ops {

/// g = -e^A · softplus(a + dt), the logarithm of the decay per step; softplus(x) = log(1+e^x), x
/// itself above 20.
/// Shapes: a [T,H] or [T,H,K]; A_log [H]; dt_bias [H] or [H,K] (as a) -> like a.
/// Dtype:  arithmetic and result in fp32 (fp64 for fp64). Grad: a, A_log, dt_bias; saves them.
///         da = dg·(-e^A)·σ(a+dt), d dt = Σ da, dA = Σ dg·g. Deterministic.
/// Errors: ShapeError.
/// Source: Yang et al. 2024, Gated Delta Networks, section 3.4; Gu & Dao 2023, Mamba.
/// Test:   tests/kernels/delta_gates_test.cpp
at::Tensor delta_decay(const at::Tensor& a, const at::Tensor& log_rate, const at::Tensor& dt_bias);

/// y = x·(Σ x² + eps)^-½ over the last dim, as rms_norm computes it.
/// Test: tests/kernels/delta_gates_test.cpp
at::Tensor l2_norm(const at::Tensor& x, double eps);

}  // namespace headway::ops
