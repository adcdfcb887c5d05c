// RMSNorm whose result is gated: the output norm of linear attention.
// Not for: plain norms (norm.h) or gates without a norm (gate.h).
// Legend: C channels; … leading dimensions, called rows.
#pragma once

#include <ATen/core/Tensor.h>

#include "headway/ops/norm.h"

namespace headway::ops {

enum class NormGate { kSilu, kSigmoid };

struct GatedNormOptions {
  double eps = 1e-6;
  NormFlavour flavour = NormFlavour::kPlain;  // kPlain and kFp32Weight: w; kZeroCentered: 1+w
  NormGate gate = NormGate::kSilu;
};

/// y = x·rsqrt(mean(x²)+eps) ∘ w' ∘ gate(z) over the last dim.
/// Shapes: x, z […,C] (last dim contiguous, rows may be strided), w [C] or undefined (kNoWeight)
///         -> contiguous […,C].
/// Dtype:  x and z alike; w in their dtype or fp32; everything in fp32 (fp64 for fp64), one
///         rounding. Grad: x, z, w; saves x, z, w and 1/rms. Deterministic (fixed row blocks).
///         With n = x/rms, h = dy∘gate(z)∘w': dx = (h - n·mean(h∘n))/rms, dw = Σ dy∘n∘gate(z),
///         dz = dy∘w'∘n∘gate'(z).
/// Errors: ShapeError; UnsupportedError if a forced kernel ("gated_rms_norm") cannot run.
/// Source: Yang et al. 2024, Gated Delta Networks, section 3.4. Test:
///         tests/kernels/gated_norm_test.cpp
at::Tensor gated_rms_norm(const at::Tensor& x, const at::Tensor& z, const at::Tensor& weight,
                          const GatedNormOptions& options);

}  // namespace headway::ops
