// Sigmoid output gate of attention, head-wise and element-wise by one broadcast rule.
// Not for: the MLP's gate (activation.h).
// Legend: T tokens, H heads, V channels of a head.
#pragma once

#include <ATen/core/Tensor.h>

namespace headway::ops {

/// y = x ∘ σ(g), σ and product in fp32 (fp64 for fp64), one rounding.
/// Shapes: x [T,H,V] (last dim contiguous), g [T,H] (one scalar per head, broadcast over V) or
///         [T,H,V], any strides -> contiguous [T,H,V].
/// Dtype:  g like x. Grad: dx = dy∘σ(g); dg = σ(g)(1-σ(g))∘(dy∘x), summed over V when head-wise;
///         saves x and g. Deterministic.
/// Exact:  g = 0 gives 0.5·x; g = ±1e4 gives x or 0.
/// Errors: ShapeError; UnsupportedError if a forced kernel ("sigmoid_gate") cannot run.
/// Source: Qiu et al. 2025 (gated attention). Test: tests/kernels/gate_test.cpp
at::Tensor sigmoid_gate(const at::Tensor& x_THV, const at::Tensor& gate);

}  // namespace headway::ops
