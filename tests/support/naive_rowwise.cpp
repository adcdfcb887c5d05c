// Not for: anything but naive_rowwise.h.
#include "tests/support/naive_rowwise.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace headway::test {
namespace {

struct RowStatistics {
  double mean = 0.0, rstd = 0.0;
};

RowStatistics statistics(const Matrix& x, int64_t row, const NaiveNorm& norm) {
  RowStatistics s;
  if (norm.layer) {
    for (int64_t c = 0; c < x.columns; ++c) s.mean += x.at(row, c) / x.columns;
  }
  double squares = 0.0;
  for (int64_t c = 0; c < x.columns; ++c) {
    squares += (x.at(row, c) - s.mean) * (x.at(row, c) - s.mean);
  }
  s.rstd = 1.0 / std::sqrt(squares / x.columns + norm.eps);
  return s;
}

double factor(const NaiveNorm& norm, int64_t c) {
  return norm.factor.empty() ? 1.0 : norm.factor[c];
}

double sigmoid(double x) { return 1.0 / (1.0 + std::exp(-x)); }

}  // namespace

Matrix naive_norm(const Matrix& x, const NaiveNorm& norm) {
  Matrix y(x.rows, x.columns);
  for (int64_t row = 0; row < x.rows; ++row) {
    const RowStatistics s = statistics(x, row, norm);
    for (int64_t c = 0; c < x.columns; ++c) {
      const double shift = norm.bias.empty() ? 0.0 : norm.bias[c];
      y.at(row, c) = (x.at(row, c) - s.mean) * s.rstd * factor(norm, c) + shift;
    }
  }
  return y;
}

NaiveNormGradients naive_norm_gradients(const Matrix& x, const NaiveNorm& norm, const Matrix& dy) {
  const int64_t n = x.columns;
  NaiveNormGradients g;
  g.dx = Matrix(x.rows, n);
  g.d_factor.assign(n, 0.0);
  g.d_bias.assign(n, 0.0);
  for (int64_t row = 0; row < x.rows; ++row) {
    const RowStatistics s = statistics(x, row, norm);
    for (int64_t i = 0; i < n; ++i) {
      const double centred = x.at(row, i) - s.mean;
      g.d_factor[i] += dy.at(row, i) * centred * s.rstd;
      g.d_bias[i] += dy.at(row, i);
      for (int64_t j = 0; j < n; ++j) {
        const double direct = (i == j ? 1.0 : 0.0) - (norm.layer ? 1.0 / n : 0.0);
        const double through_rstd =
            centred * (x.at(row, j) - s.mean) * s.rstd * s.rstd * s.rstd / n;
        g.dx.at(row, j) += dy.at(row, i) * factor(norm, i) * (direct * s.rstd - through_rstd);
      }
    }
  }
  return g;
}

Matrix naive_rope(const Matrix& x, const NaiveRope& rope) {
  Matrix y = x;
  const int64_t pairs = rope.cos.columns;
  const int64_t heads = x.rows / std::max<int64_t>(1, rope.positions.size());
  for (int64_t row = 0; row < x.rows; ++row) {
    const int64_t position = rope.positions[row / heads];
    for (int64_t p = 0; p < pairs; ++p) {
      const int64_t a = rope.interleaved ? 2 * p : p, b = rope.interleaved ? 2 * p + 1 : p + pairs;
      const double cos = rope.cos.at(position, p), sin = rope.sign * rope.sin.at(position, p);
      y.at(row, a) = x.at(row, a) * cos - x.at(row, b) * sin;
      y.at(row, b) = x.at(row, b) * cos + x.at(row, a) * sin;
    }
  }
  return y;
}

Matrix naive_gate(const Matrix& x, const Matrix& gate) {
  Matrix y(x.rows, x.columns);
  for (int64_t row = 0; row < x.rows; ++row) {
    for (int64_t c = 0; c < x.columns; ++c) {
      y.at(row, c) = x.at(row, c) * sigmoid(gate.at(row, gate.columns == 1 ? 0 : c));
    }
  }
  return y;
}

NaiveGateGradients naive_gate_gradients(const Matrix& x, const Matrix& gate, const Matrix& dy) {
  NaiveGateGradients g{Matrix(x.rows, x.columns), Matrix(gate.rows, gate.columns)};
  for (int64_t row = 0; row < x.rows; ++row) {
    for (int64_t c = 0; c < x.columns; ++c) {
      const int64_t place = gate.columns == 1 ? 0 : c;
      const double s = sigmoid(gate.at(row, place));
      g.dx.at(row, c) = dy.at(row, c) * s;
      g.d_gate.at(row, place) += dy.at(row, c) * x.at(row, c) * s * (1.0 - s);
    }
  }
  return g;
}

double naive_curve(NaiveCurve curve, double x) {
  switch (curve) {
    case NaiveCurve::kSilu:
      return x * sigmoid(x);
    case NaiveCurve::kGeluTanh:
      return 0.5 * x *
             (1.0 + std::tanh(std::sqrt(2.0 / std::numbers::pi) * (x + 0.044715 * x * x * x)));
    case NaiveCurve::kGelu:
      return 0.5 * x * (1.0 + std::erf(x / std::numbers::sqrt2));
    case NaiveCurve::kRelu:
      return x > 0.0 ? x : 0.0;
    case NaiveCurve::kQuickGelu:
      return x * sigmoid(1.702 * x);
  }
  return NAN;
}

double naive_curve_slope(NaiveCurve curve, double x) {
  switch (curve) {
    case NaiveCurve::kSilu:
      return sigmoid(x) + x * sigmoid(x) * (1.0 - sigmoid(x));
    case NaiveCurve::kGeluTanh: {
      const double root = std::sqrt(2.0 / std::numbers::pi);
      const double t = std::tanh(root * (x + 0.044715 * x * x * x));
      return 0.5 * (1.0 + t) + 0.5 * x * (1.0 - t * t) * root * (1.0 + 3.0 * 0.044715 * x * x);
    }
    case NaiveCurve::kGelu:
      return 0.5 * (1.0 + std::erf(x / std::numbers::sqrt2)) +
             x * std::exp(-0.5 * x * x) / std::sqrt(2.0 * std::numbers::pi);
    case NaiveCurve::kRelu:
      return x > 0.0 ? 1.0 : 0.0;
    case NaiveCurve::kQuickGelu: {
      const double s = sigmoid(1.702 * x);
      return s + 1.702 * x * s * (1.0 - s);
    }
  }
  return NAN;
}

Matrix naive_gated(const Matrix& gate_up, NaiveCurve curve, const NaiveGate& options) {
  const int64_t width = gate_up.columns / 2;
  const double limit = options.limit;
  Matrix y(gate_up.rows, width);
  for (int64_t row = 0; row < y.rows; ++row) {
    for (int64_t c = 0; c < width; ++c) {
      double gate = gate_up.at(row, c), up = gate_up.at(row, width + c);
      if (limit > 0.0 && options.limit_input) gate = std::min(gate, limit);
      double act = naive_curve(curve, gate);
      if (limit > 0.0 && !options.limit_input) act = std::min(act, limit);
      if (limit > 0.0) up = std::clamp(up, -limit, limit);
      y.at(row, c) = act * (up + options.offset);
    }
  }
  return y;
}

Matrix naive_gated_gradient(const Matrix& gate_up, NaiveCurve curve, const NaiveGate& options,
                            const Matrix& dy) {
  const int64_t width = gate_up.columns / 2;
  const double limit = options.limit;
  Matrix d(gate_up.rows, gate_up.columns);
  for (int64_t row = 0; row < d.rows; ++row) {
    for (int64_t c = 0; c < width; ++c) {
      double gate = gate_up.at(row, c);
      const double up = gate_up.at(row, width + c), grad = dy.at(row, c);
      const bool gate_binds = limit > 0.0 && options.limit_input && gate > limit;
      if (gate_binds) gate = limit;
      const double act = naive_curve(curve, gate);
      const bool act_binds = limit > 0.0 && !options.limit_input && act > limit;
      const bool up_binds = limit > 0.0 && std::abs(up) > limit;
      const double factor = (up_binds ? std::copysign(limit, up) : up) + options.offset;
      d.at(row, c) = gate_binds || act_binds ? 0.0 : grad * factor * naive_curve_slope(curve, gate);
      d.at(row, width + c) = up_binds ? 0.0 : grad * (act_binds ? limit : act);
    }
  }
  return d;
}

}  // namespace headway::test
