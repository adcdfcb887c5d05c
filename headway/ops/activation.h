// Activations of the MLP on the output of its first projection.
// Not for: the projections.
#pragma once

#include <ATen/core/Tensor.h>

namespace headway::ops {

/// kQuickGelu: x·σ(1.702 x).
enum class ActivationKind { kSilu, kGeluTanh, kGelu, kRelu, kQuickGelu };

/// What stands around the product of a gated activation.
struct GatedOptions {
  double limit = 0.0;        // m; 0: none
  bool limit_input = false;  // m clamps the gate before the activation, not what comes out of it
  double offset = 0.0;       // c, added to the other branch
};

/// Gated: input rows are [gate | up], both F wide: y = act(gate) ∘ (up + c).
///   limit m > 0: y = min(act(gate), m) ∘ (clamp(up, -m, m) + c), or with limit_input
///                y = act(min(gate, m)) ∘ (clamp(up, -m, m) + c).
/// Shapes: gate_up […,2F], copied unless contiguous -> […,F].
/// Dtype:  arithmetic in fp32 (fp64 for fp64), result in the input's dtype, one rounding.
///         Grad: gate_up (0 through a clamp that binds); saves the input only. Deterministic.
/// Errors: ShapeError (odd width, limit < 0, offset not finite); UnsupportedError if a forced
/// kernel ("activation")
///         cannot run.
/// Source: Shazeer 2020 (GLU variants); clamps: Step-3.5's swiglu_limits, gpt-oss (on the input,
///         with quick_gelu and c = 1).
/// Test:   tests/kernels/activation_test.cpp
at::Tensor gated_activation(const at::Tensor& gate_up, ActivationKind kind,
                            const GatedOptions& options);
inline at::Tensor gated_activation(const at::Tensor& gate_up, ActivationKind kind,
                                   double limit = 0.0) {
  return gated_activation(gate_up, kind, GatedOptions{limit, false, 0.0});
}

/// y = act(x), any shape, same conventions.
at::Tensor activation(const at::Tensor& x, ActivationKind kind);

}  // namespace headway::ops
