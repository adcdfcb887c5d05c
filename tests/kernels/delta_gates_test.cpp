// The decay map in every dtype and shape against its formula, gradients, and unit-length vectors.
#include "headway/ops/delta_gates.h"

#include <cmath>

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>
#include <gtest/gtest.h>

#include "headway/base/error.h"

#include "tests/support/numeric_gradient.h"
#include "tests/support/temp_folder.h"
#include "tests/support/tensors.h"
#include "tests/support/tolerance.h"

namespace headway::ops {
namespace {

using test::close;

TEST(DeltaDecay, AgreesWithScalarLoops) {
  for (const at::ScalarType type : {at::kDouble, at::kFloat, at::kBFloat16}) {
    const at::Tensor a = 12 * test::normal_tensor({40, 3}, type, 1);
    const at::Tensor rate = test::normal_tensor({3}, type, 2);
    const at::Tensor bias = test::normal_tensor({3}, type, 3);
    const at::Tensor g = delta_decay(a, rate, bias);
    EXPECT_EQ(g.scalar_type(), type == at::kDouble ? at::kDouble : at::kFloat);
    const auto logits = test::to_doubles(a);
    std::vector<double> want(logits.size());
    for (size_t i = 0; i < want.size(); ++i) {
      const double x = logits[i] + bias[i % 3].item<double>();
      want[i] = -std::exp(rate[i % 3].item<double>()) * (x > 20 ? x : std::log1p(std::exp(x)));
    }
    const at::Tensor wanted = at::tensor(want, at::kDouble).view({40, 3});
    EXPECT_TRUE(close(g, wanted, type == at::kDouble ? 1e-14 : 1e-6));
    EXPECT_LE(g.max().item<double>(), 0.0);
  }
}

TEST(DeltaDecay, AnalyticEqualsNumericGradient) {
  const auto check = [](const at::Tensor& a, const at::Tensor& bias) {
    const auto function = [](const std::vector<at::Tensor>& x) {
      return std::vector<at::Tensor>{delta_decay(x[0], x[1], x[2])};
    };
    EXPECT_TRUE(test::gradients_agree(function, {a, test::normal_tensor({3}, at::kDouble, 2), bias},
                                      4, 1e-8));
  };
  check(test::normal_tensor({6, 3}, at::kDouble, 1), test::normal_tensor({3}, at::kDouble, 3));
  check(test::normal_tensor({6, 3, 5}, at::kDouble, 1),
        test::normal_tensor({3, 5}, at::kDouble, 3));
  check(test::normal_tensor({6, 3, 5}, at::kDouble, 1), test::normal_tensor({3}, at::kDouble, 3));
}

TEST(DeltaDecay, Errors) {
  const at::Tensor a = at::zeros({4, 3}), ok = at::zeros({3});
  const auto message = [](auto action) { return testing_support::message_of<ShapeError>(action); };
  EXPECT_NE(message([&] { delta_decay(a, at::zeros({2}), ok); }).find("A_log"), std::string::npos);
  EXPECT_NE(message([&] {
              delta_decay(a, ok, at::zeros({3, 2}));
            }).find("dt_bias"),
            std::string::npos);
  EXPECT_NE(message([&] { delta_decay(ok, ok, ok); }).find("[T,H]"), std::string::npos);
}

TEST(L2Norm, HasUnitLengthAndTakesZeroRows) {
  at::Tensor x = test::normal_tensor({9, 2, 8}, at::kDouble, 1);
  x[0].zero_();
  const at::Tensor y = l2_norm(x, 1e-6);
  EXPECT_TRUE(close(y, x * (x.square().sum(-1, true) + 1e-6).rsqrt(), 1e-14));
  EXPECT_EQ(y[0].abs().max().item<double>(), 0.0);
}

}  // namespace
}  // namespace headway::ops
