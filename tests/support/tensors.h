// Seeded tensors for tests and their comparison. Not for: goldens (read from files).
#pragma once

#include <cstdint>
#include <vector>

#include <ATen/core/Tensor.h>
#include <gtest/gtest.h>

#include "tests/support/naive_head.h"

namespace headway::test {

/// Standard normal values, equal for equal seeds.
at::Tensor normal_tensor(at::IntArrayRef sizes, at::ScalarType type, uint64_t seed);

/// Whole numbers in [low, high).
at::Tensor integer_tensor(at::IntArrayRef sizes, int64_t low, int64_t high, uint64_t seed);

Matrix to_matrix(const at::Tensor& x);
std::vector<double> to_doubles(const at::Tensor& x);
std::vector<int64_t> to_integers(const at::Tensor& x);
at::Tensor from_matrix(const Matrix& matrix);

/// Equal shapes, and |got - want| <= relative·max|want| (+ absolute) everywhere; says where not.
testing::AssertionResult close(const at::Tensor& got, const at::Tensor& want, double relative,
                               double absolute = 0.0);

/// Same shape, dtype and bits.
testing::AssertionResult same_bits(const at::Tensor& got, const at::Tensor& want);

}  // namespace headway::test
