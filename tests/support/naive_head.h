// Scalar loops in double for embedding, linear and the cross-entropy of a linear head, with their
// gradients: what the reference ops are checked against. Not for: speed, or any use of ATen.
// Legend: T tokens, V vocabulary, D hidden, I inputs, O outputs.
#pragma once

#include <cstdint>
#include <vector>

namespace headway::test {

/// Row-major matrix of doubles.
struct Matrix {
  int64_t rows = 0;
  int64_t columns = 0;
  std::vector<double> values;

  Matrix() = default;
  Matrix(int64_t r, int64_t c) : rows(r), columns(c), values(r * c, 0.0) {}
  double& at(int64_t r, int64_t c) { return values[r * columns + c]; }
  double at(int64_t r, int64_t c) const { return values[r * columns + c]; }
};

/// y = table[ids]·scale.
Matrix naive_embedding(const std::vector<int64_t>& ids, const Matrix& table, double scale);
/// Gradient of the table.
Matrix naive_embedding_gradient(const std::vector<int64_t>& ids, const Matrix& d_out, int64_t rows,
                                double scale, int64_t padding_id);

/// y = x Wᵀ + b; an empty bias is none.
Matrix naive_linear(const Matrix& x, const Matrix& weight, const std::vector<double>& bias);

struct NaiveLinearGradients {
  Matrix dx, dw;
  std::vector<double> db;
};
NaiveLinearGradients naive_linear_gradients(const Matrix& x, const Matrix& weight,
                                            const Matrix& dy);

struct NaiveCrossEntropyOptions {
  double softcap = 0.0;
  double z_loss = 0.0;
  int64_t ignore_index = -100;
  int64_t divisor = 0;
};
struct NaiveCrossEntropy {
  double loss = 0.0;
  double ce = 0.0;
  int64_t counted = 0;
  Matrix dx, dw;
};
NaiveCrossEntropy naive_cross_entropy(const Matrix& x, const Matrix& weight,
                                      const std::vector<int64_t>& labels,
                                      const NaiveCrossEntropyOptions& options);

}  // namespace headway::test
