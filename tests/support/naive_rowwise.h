// Scalar loops in double for norms, rope, the sigmoid gate and activations, with their gradients:
// what the reference ops are checked against. Not for: speed, or any use of ATen.
// Legend: T tokens, H heads, K channels of a head, M table rows, P rotated pairs, C channels.
#pragma once

#include <cstdint>
#include <vector>

#include "tests/support/naive_head.h"

namespace headway::test {

/// y = (x - mean?)·r·factor + bias by rows; empty factor and bias are 1 and 0.
struct NaiveNorm {
  std::vector<double> factor;
  std::vector<double> bias;
  double eps = 0.0;
  bool layer = false;
};
Matrix naive_norm(const Matrix& x, const NaiveNorm& norm);

/// By the full Jacobian of every row.
struct NaiveNormGradients {
  Matrix dx;
  std::vector<double> d_factor, d_bias;
};
NaiveNormGradients naive_norm_gradients(const Matrix& x, const NaiveNorm& norm, const Matrix& dy);

/// x is [T·H, K]; row t·H + h is turned by row positions[t] of the tables [M,P]. `sign` -1: back.
struct NaiveRope {
  Matrix cos, sin;
  std::vector<int64_t> positions;
  bool interleaved = false;
  double sign = 1.0;
};
Matrix naive_rope(const Matrix& x, const NaiveRope& rope);

/// y = x·σ(gate); gate is [rows,1] (one for a row) or like x.
Matrix naive_gate(const Matrix& x, const Matrix& gate);
struct NaiveGateGradients {
  Matrix dx, d_gate;
};
NaiveGateGradients naive_gate_gradients(const Matrix& x, const Matrix& gate, const Matrix& dy);

enum class NaiveCurve { kSilu, kGeluTanh, kGelu, kRelu, kQuickGelu };
double naive_curve(NaiveCurve curve, double x);
double naive_curve_slope(NaiveCurve curve, double x);

/// Clamp m of both branches (0: none), after the activation or on its input, and what is added to
/// the other branch behind it.
struct NaiveGate {
  double limit = 0.0;
  bool limit_input = false;
  double offset = 0.0;
};

/// Rows [gate | up] -> min(act(gate), m)·(clamp(up, ±m) + c), or act(min(gate, m)) in its place.
Matrix naive_gated(const Matrix& gate_up, NaiveCurve curve, const NaiveGate& options);
Matrix naive_gated_gradient(const Matrix& gate_up, NaiveCurve curve, const NaiveGate& options,
                            const Matrix& dy);

}  // namespace headway::test
