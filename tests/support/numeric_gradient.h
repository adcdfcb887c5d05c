// Analytic against numeric gradients in double, along random directions.
// Not for: float32, whose differences are all rounding.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include <ATen/core/Tensor.h>
#include <gtest/gtest.h>

namespace headway::test {

using TensorFunction = std::function<std::vector<at::Tensor>(const std::vector<at::Tensor>&)>;

/// Compares d/dh Σ cotangent·f(inputs + h·direction) by central differences with the analytic
/// gradient, one direction for every input alone. Inputs: double, undefined ones are passed on.
testing::AssertionResult gradients_agree(const TensorFunction& function,
                                         std::vector<at::Tensor> inputs, uint64_t seed,
                                         double tolerance = 1e-7);

}  // namespace headway::test
