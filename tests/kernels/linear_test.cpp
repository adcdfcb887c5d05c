// linear, split_columns and scaled_residual against scalar loops, forward and backward.
#include "headway/ops/linear.h"

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "headway/base/error.h"
#include "headway/ops/kernel_table.h"

#include "tests/support/kernel_variants.h"
#include "tests/support/naive_head.h"
#include "tests/support/tensors.h"
#include "tests/support/tolerance.h"

namespace headway::ops {
namespace {

using test::close;
using testing::HasSubstr;

struct Case {
  int64_t tokens, inputs, outputs;
  bool bias;
};

const Case kUpTo4Rows[] = {{1, 1, 1, true},    {3, 7, 5, true},      {2, 64, 300, true},
                           {4, 130, 31, true}, {3, 512, 512, false}, {1, 33, 1001, false}};
const Case kUpTo8Rows[] = {{5, 19, 6, false}, {7, 300, 1001, true}, {8, 31, 2, false}};
const Case kManyRows[] = {{17, 33, 65, false}, {128, 48, 9, true}, {0, 4, 3, true}};

class LinearOp
    : public testing::TestWithParam<std::tuple<test::KernelVariant, at::ScalarType, Case>> {};

TEST_P(LinearOp, AgreesWithScalarLoops) {
  const auto& [variant, type, c] = GetParam();
  ScopedKernel forced("linear", variant.kernel, variant.target);
  at::Tensor x = test::normal_tensor({c.tokens, c.inputs}, type, 1).requires_grad_();
  at::Tensor weight = test::normal_tensor({c.outputs, c.inputs}, type, 2).requires_grad_();
  at::Tensor bias;
  if (c.bias) bias = test::normal_tensor({c.outputs}, type, 3).requires_grad_();
  const at::Tensor dy = test::normal_tensor({c.tokens, c.outputs}, type, 4);
  const at::Tensor y = ops::linear(x, weight, bias);
  y.backward(dy);
  const auto mx = test::to_matrix(x), mw = test::to_matrix(weight);
  const auto want =
      test::naive_linear(mx, mw, c.bias ? test::to_doubles(bias) : std::vector<double>());
  const auto grads = test::naive_linear_gradients(mx, mw, test::to_matrix(dy));
  EXPECT_TRUE(close(y, test::from_matrix(want), test::tolerance(type, c.inputs)));
  EXPECT_TRUE(close(x.grad(), test::from_matrix(grads.dx), test::tolerance(type, c.outputs)));
  EXPECT_TRUE(close(weight.grad(), test::from_matrix(grads.dw), test::tolerance(type, c.tokens)));
  if (c.bias) {
    EXPECT_TRUE(close(bias.grad(), at::tensor(grads.db), test::tolerance(type, c.tokens)));
  }
}

const auto kGemvs = testing::ValuesIn(test::kernel_variants({"gemv"}, {}));
const auto kReference = testing::ValuesIn(test::kernel_variants({}, {"reference"}));
const auto kAllTypes = testing::Values(at::kFloat, at::kDouble, at::kBFloat16);

INSTANTIATE_TEST_SUITE_P(GemvUpTo4, LinearOp,
                         testing::Combine(kGemvs, testing::Values(at::kFloat, at::kBFloat16),
                                          testing::ValuesIn(kUpTo4Rows)));
INSTANTIATE_TEST_SUITE_P(GemvUpTo8, LinearOp,
                         testing::Combine(kGemvs, testing::Values(at::kFloat),
                                          testing::ValuesIn(kUpTo8Rows)));
INSTANTIATE_TEST_SUITE_P(ReferenceUpTo4, LinearOp,
                         testing::Combine(kReference, kAllTypes, testing::ValuesIn(kUpTo4Rows)));
INSTANTIATE_TEST_SUITE_P(ReferenceUpTo8, LinearOp,
                         testing::Combine(kReference, kAllTypes, testing::ValuesIn(kUpTo8Rows)));
INSTANTIATE_TEST_SUITE_P(ReferenceMore, LinearOp,
                         testing::Combine(kReference, kAllTypes, testing::ValuesIn(kManyRows)));

TEST(Linear, ForcedGemvRefusesManyRows) {
  ScopedKernel forced("linear", "gemv");
  const auto run = [](int64_t rows, at::ScalarType type) {
    ops::linear(at::zeros({rows, 2}, type), at::zeros({3, 2}, type), {});
  };
  EXPECT_NO_THROW(run(8, at::kFloat));
  EXPECT_THROW(run(9, at::kFloat), UnsupportedError);
  EXPECT_THROW(run(5, at::kBFloat16), UnsupportedError);
  EXPECT_THROW(run(1, at::kDouble), UnsupportedError);
}

TEST(Linear, GemvTakesStridedRows) {
  const at::Tensor x = test::normal_tensor({2, 40}, at::kFloat, 1).narrow(1, 3, 17);
  const at::Tensor weight = test::normal_tensor({9, 30}, at::kFloat, 2).narrow(1, 5, 17);
  const at::Tensor want = at::mm(x.to(at::kDouble), weight.to(at::kDouble).t());
  ScopedKernel forced("linear", "gemv");
  EXPECT_TRUE(close(ops::linear(x, weight, {}), want, test::tolerance(at::kFloat, 17)));
}

TEST(Linear, ComputesOnlyTheGradientsAsked) {
  const at::Tensor x = test::normal_tensor({4, 3}, at::kFloat, 1);
  at::Tensor weight = test::normal_tensor({5, 3}, at::kFloat, 2).requires_grad_();
  ops::linear(x, weight, {}).sum().backward();
  EXPECT_FALSE(x.grad().defined());
  EXPECT_TRUE(close(weight.grad(), x.sum(0, true).expand({5, 3}), 1e-6));
  at::NoGradGuard off;
  EXPECT_FALSE(ops::linear(x, weight, {}).requires_grad());
}

TEST(Linear, TakesColumnRunsOfAnotherTensor) {
  const at::Tensor wide = test::normal_tensor({6, 10}, at::kDouble, 1);
  const at::Tensor weight = test::normal_tensor({3, 4}, at::kDouble, 2);
  const at::Tensor x = wide.narrow(1, 5, 4);
  EXPECT_TRUE(close(ops::linear(x, weight, {}), ops::linear(x.contiguous(), weight, {}), 1e-15));
}

std::string linear_error(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias) {
  try {
    ops::linear(x, weight, bias);
  } catch (const ShapeError& error) {
    return error.what();
  }
  return "no error";
}

TEST(Linear, NamesWhatIsWrong) {
  const at::Tensor x = at::zeros({2, 3}), weight = at::zeros({5, 3}), bias = at::zeros({5});
  EXPECT_THAT(linear_error(x[0], weight, bias), HasSubstr("[linear] x = [3], allowed [T,I]"));
  EXPECT_THAT(linear_error(x, weight.t(), bias), HasSubstr("weight = [3, 5], allowed [O,3]"));
  EXPECT_THAT(linear_error(x, weight, at::zeros({4})), HasSubstr("bias = [4], allowed [5]"));
  EXPECT_THAT(linear_error(x, weight.to(at::kDouble), bias),
              HasSubstr("weight = Double, allowed Float, the dtype of x"));
  EXPECT_THAT(linear_error(x, at::Tensor(), bias), HasSubstr("weight = undefined"));
  EXPECT_THAT(linear_error(x.to(at::kLong), weight, bias), HasSubstr("x = Long"));
}

TEST(SplitColumns, RunsShareMemoryAndSendGradientsBack) {
  at::Tensor leaf = test::normal_tensor({4, 9}, at::kDouble, 1).requires_grad_();
  const at::Tensor x = leaf * 2;
  const auto runs = split_columns(x, {2, 3, 4});
  ASSERT_EQ(runs.size(), 3u);
  EXPECT_EQ(runs[1].data_ptr<double>(), x.data_ptr<double>() + 2);
  EXPECT_TRUE(test::same_bits(runs[2], x.narrow(1, 5, 4)));
  const at::Tensor a = test::normal_tensor({4, 2}, at::kDouble, 2);
  const at::Tensor c = test::normal_tensor({4, 4}, at::kDouble, 3);
  // The first run is used twice, the second not at all.
  ((runs[0] * a).sum() + (runs[0] * runs[0]).sum() + (runs[2] * c).sum()).backward();
  const at::Tensor want =
      2 * at::cat({a + 2 * x.narrow(1, 0, 2), at::zeros({4, 3}, at::kDouble), c}, 1);
  EXPECT_TRUE(close(leaf.grad(), want, 1e-14));
}

TEST(SplitColumns, IsOneNodeWithoutSlicesOfAutogradItself) {
  at::Tensor leaf = at::ones({2, 5}).requires_grad_();
  const auto runs = split_columns(leaf, {2, 3});
  EXPECT_EQ(runs[0].grad_fn(), runs[1].grad_fn());
  EXPECT_FALSE(runs[0].is_view());
  EXPECT_FALSE(runs[0].is_leaf());
}

TEST(SplitColumns, NoticesThatARunWasOverwritten) {
  at::Tensor leaf = at::ones({2, 5}).requires_grad_();
  const at::Tensor x = leaf * 1;
  const auto runs = split_columns(x, {2, 3});
  const at::Tensor loss = (runs[0] * runs[0]).sum();
  {
    at::NoGradGuard off;
    at::Tensor second = runs[1];
    second.zero_();
  }
  EXPECT_THROW(loss.backward(), c10::Error);
}

TEST(SplitColumns, WorksWithoutGradientsAndOnStridedRows) {
  const at::Tensor wide = test::normal_tensor({3, 8}, at::kFloat, 1);
  const auto runs = split_columns(wide.narrow(1, 1, 6), {1, 5});
  EXPECT_FALSE(runs[0].requires_grad());
  EXPECT_TRUE(test::same_bits(runs[1], wide.narrow(1, 2, 5)));
}

TEST(SplitColumns, NamesWhatIsWrong) {
  const at::Tensor x = at::zeros({2, 5});
  const auto error = [&](const std::vector<int64_t>& widths) -> std::string {
    try {
      split_columns(x, widths);
    } catch (const ShapeError& e) {
      return e.what();
    }
    return "no error";
  };
  EXPECT_THAT(error({2, 2}), HasSubstr("[split_columns] widths = a sum of 4, allowed 5"));
  EXPECT_THAT(error({5, 0}), HasSubstr("widths = 0, allowed positive"));
  EXPECT_EQ(error({5}), "no error");
}

class ScaledResidual : public testing::TestWithParam<at::ScalarType> {};

TEST_P(ScaledResidual, AgreesWithItsFormula) {
  const at::ScalarType type = GetParam();
  at::Tensor residual = test::normal_tensor({5, 7}, type, 1).requires_grad_();
  at::Tensor delta = test::normal_tensor({5, 7}, type, 2).requires_grad_();
  at::Tensor scale = at::full({1}, 0.75, type).requires_grad_();
  const at::Tensor dy = test::normal_tensor({5, 7}, type, 3);
  const at::Tensor y = scaled_residual(residual, delta, scale);
  y.backward(dy);
  const at::Tensor sum = residual.detach().to(at::kDouble) + delta.detach().to(at::kDouble);
  const at::Tensor dy64 = dy.to(at::kDouble);
  EXPECT_TRUE(close(y, sum * 0.75, test::tolerance(type, 1)));
  EXPECT_TRUE(close(residual.grad(), dy64 * 0.75, test::tolerance(type, 1)));
  EXPECT_TRUE(close(delta.grad(), dy64 * 0.75, test::tolerance(type, 1)));
  EXPECT_TRUE(close(scale.grad(), (dy64 * sum).sum().reshape({1}), test::tolerance(type, 35)));
  EXPECT_NE(residual.grad().data_ptr(), delta.grad().data_ptr());
}

INSTANTIATE_TEST_SUITE_P(All, ScaledResidual,
                         testing::Values(at::kFloat, at::kDouble, at::kBFloat16));

TEST(ScaledResidualOp, WithoutScaleOrGradientsIsASum) {
  const at::Tensor a = test::normal_tensor({2, 3}, at::kFloat, 1);
  const at::Tensor b = test::normal_tensor({2, 3}, at::kFloat, 2);
  EXPECT_TRUE(test::same_bits(scaled_residual(a, b, {}), a + b));
  EXPECT_TRUE(test::same_bits(scaled_residual(a, b, at::full({1}, 2.0f)), (a + b) * 2));
  EXPECT_THROW(scaled_residual(a, b[0], {}), ShapeError);
  EXPECT_THROW(scaled_residual(a, b, at::ones({2})), ShapeError);
  EXPECT_THROW(scaled_residual(a, b.to(at::kDouble), {}), ShapeError);
}

}  // namespace
}  // namespace headway::ops
