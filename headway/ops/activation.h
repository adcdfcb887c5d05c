// Activations of the MLP on the output of its first projection.
// Not for: the projections.
#pragma once

#include <ATen/core/Tensor.h>

namespace headway::ops {

enum class ActivationKind { kSilu, kGeluTanh, kGelu, kRelu };

/// Gated: input rows are [gate | up], both F wide: y = act(gate) ∘ up.
///   limit m > 0: y = min(act(gate), m) ∘ clamp(up, -m, m) (the clamp follows the activation).
/// Shapes: gate_up […,2F], copied unless contiguous -> […,F].
/// Dtype:  arithmetic in fp32 (fp64 for fp64), result in the input's dtype, one rounding.
///         Grad: gate_up (0 through a clamp that binds); saves the input only. Deterministic.
/// Errors: ShapeError (odd width, limit < 0); UnsupportedError if a forced kernel ("activation")
///         cannot run.
/// Source: Shazeer 2020 (GLU variants); the clamp: Step-3.5's swiglu_limits.
/// Test:   tests/kernels/activation_test.cpp
at::Tensor gated_activation(const at::Tensor& gate_up, ActivationKind kind, double limit = 0.0);

/// y = act(x), any shape, same conventions.
at::Tensor activation(const at::Tensor& x, ActivationKind kind);

}  // namespace headway::ops
