// Not for: anything but naive_head.h.
#include "tests/support/naive_head.h"

#include <algorithm>
#include <cmath>

namespace headway::test {

Matrix naive_embedding(const std::vector<int64_t>& ids, const Matrix& table, double scale) {
  Matrix out(static_cast<int64_t>(ids.size()), table.columns);
  for (int64_t t = 0; t < out.rows; ++t) {
    for (int64_t d = 0; d < out.columns; ++d) out.at(t, d) = table.at(ids[t], d) * scale;
  }
  return out;
}

Matrix naive_embedding_gradient(const std::vector<int64_t>& ids, const Matrix& d_out, int64_t rows,
                                double scale, int64_t padding_id) {
  Matrix d_table(rows, d_out.columns);
  for (int64_t t = 0; t < d_out.rows; ++t) {
    if (ids[t] == padding_id) continue;
    for (int64_t d = 0; d < d_out.columns; ++d) d_table.at(ids[t], d) += d_out.at(t, d) * scale;
  }
  return d_table;
}

Matrix naive_linear(const Matrix& x, const Matrix& weight, const std::vector<double>& bias) {
  Matrix y(x.rows, weight.rows);
  for (int64_t t = 0; t < y.rows; ++t) {
    for (int64_t o = 0; o < y.columns; ++o) {
      double sum = bias.empty() ? 0.0 : bias[o];
      for (int64_t i = 0; i < x.columns; ++i) sum += x.at(t, i) * weight.at(o, i);
      y.at(t, o) = sum;
    }
  }
  return y;
}

NaiveLinearGradients naive_linear_gradients(const Matrix& x, const Matrix& weight,
                                            const Matrix& dy) {
  NaiveLinearGradients grads{Matrix(x.rows, x.columns), Matrix(weight.rows, weight.columns),
                             std::vector<double>(weight.rows, 0.0)};
  for (int64_t t = 0; t < x.rows; ++t) {
    for (int64_t o = 0; o < weight.rows; ++o) {
      grads.db[o] += dy.at(t, o);
      for (int64_t i = 0; i < x.columns; ++i) {
        grads.dx.at(t, i) += dy.at(t, o) * weight.at(o, i);
        grads.dw.at(o, i) += dy.at(t, o) * x.at(t, i);
      }
    }
  }
  return grads;
}

NaiveCrossEntropy naive_cross_entropy(const Matrix& x, const Matrix& weight,
                                      const std::vector<int64_t>& labels,
                                      const NaiveCrossEntropyOptions& options) {
  NaiveCrossEntropy result;
  Matrix z = naive_linear(x, weight, {});
  Matrix dz(z.rows, z.columns);
  for (const int64_t label : labels) result.counted += label != options.ignore_index;
  const double divisor = static_cast<double>(
      options.divisor > 0 ? options.divisor : std::max<int64_t>(1, result.counted));
  for (int64_t t = 0; t < z.rows; ++t) {
    if (labels[t] == options.ignore_index) continue;
    double sum = 0.0, top = -1e300;
    for (int64_t v = 0; v < z.columns; ++v) {
      if (options.softcap > 0) {
        z.at(t, v) = options.softcap * std::tanh(z.at(t, v) / options.softcap);
      }
      top = std::max(top, z.at(t, v));
    }
    for (int64_t v = 0; v < z.columns; ++v) sum += std::exp(z.at(t, v) - top);
    const double lse = top + std::log(sum);
    result.ce += (lse - z.at(t, labels[t])) / divisor;
    result.loss += (lse - z.at(t, labels[t]) + options.z_loss * lse * lse) / divisor;
    for (int64_t v = 0; v < z.columns; ++v) {
      const double p = std::exp(z.at(t, v) - lse);
      double d = p - (v == labels[t] ? 1.0 : 0.0) + 2.0 * options.z_loss * lse * p;
      if (options.softcap > 0) {
        const double ratio = z.at(t, v) / options.softcap;
        d *= 1.0 - ratio * ratio;
      }
      dz.at(t, v) = d / divisor;
    }
  }
  NaiveLinearGradients grads = naive_linear_gradients(x, weight, dz);
  result.dx = std::move(grads.dx);
  result.dw = std::move(grads.dw);
  return result;
}

}  // namespace headway::test
