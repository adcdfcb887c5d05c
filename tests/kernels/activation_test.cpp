// Every activation kernel on every Highway target: against scalar loops, over dtypes, odd sizes,
// kinds and limits; values at the clamp.
#include "headway/ops/activation.h"

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>

#include "headway/base/error.h"

#include "tests/support/kernel_variants.h"
#include "tests/support/naive_rowwise.h"
#include "tests/support/tensors.h"
#include "tests/support/tolerance.h"

namespace headway::ops {
namespace {

using test::close;
using test::KernelVariant;
using test::NaiveCurve;

// The scalar loops subtract tanh from one.
constexpr double kNaiveError = 1e-14;

constexpr int64_t kWidths[] = {1, 2, 3, 7, 8, 24, 63, 64, 65, 130, 256, 300};

struct Kind {
  ActivationKind kind;
  NaiveCurve curve;
};
constexpr Kind kKinds[] = {{ActivationKind::kSilu, NaiveCurve::kSilu},
                           {ActivationKind::kGeluTanh, NaiveCurve::kGeluTanh},
                           {ActivationKind::kGelu, NaiveCurve::kGelu},
                           {ActivationKind::kRelu, NaiveCurve::kRelu},
                           {ActivationKind::kQuickGelu, NaiveCurve::kQuickGelu}};
constexpr test::NaiveGate kGates[] = {{}, {0.5, false, 0.0}, {0.5, true, 0.0}, {0.75, true, 1.0}};

class ActivationKernel : public testing::TestWithParam<std::tuple<KernelVariant, at::ScalarType>> {
 protected:
  bool takes(ActivationKind kind) const {
    return std::get<0>(GetParam()).kernel == "reference" || kind != ActivationKind::kGelu;
  }
};

TEST_P(ActivationKernel, GatedAgreesWithScalarLoops) {
  const auto& [variant, type] = GetParam();
  const ScopedKernel forced("activation", variant.kernel, variant.target);
  for (const int64_t width : kWidths) {
    for (const Kind& kind : kKinds) {
      if (!takes(kind.kind)) continue;
      for (const test::NaiveGate& gate : kGates) {
        SCOPED_TRACE(testing::Message()
                     << "width " << width << " kind " << static_cast<int>(kind.kind) << " limit "
                     << gate.limit << " input " << gate.limit_input << " offset " << gate.offset);
        const at::Tensor x =
            (test::normal_tensor({9, 2 * width}, type, 1) * 3).detach().requires_grad_();
        const at::Tensor dy = test::normal_tensor({9, width}, type, 2);
        const at::Tensor y =
            gated_activation(x, kind.kind, {gate.limit, gate.limit_input, gate.offset});
        y.backward(dy);
        EXPECT_EQ(y.scalar_type(), type);
        const test::Matrix rows = test::to_matrix(x);
        EXPECT_TRUE(close(y, test::from_matrix(test::naive_gated(rows, kind.curve, gate)),
                          test::tolerance(type, 1), kNaiveError));
        EXPECT_TRUE(close(x.grad(),
                          test::from_matrix(test::naive_gated_gradient(rows, kind.curve, gate,
                                                                       test::to_matrix(dy))),
                          test::tolerance(type, 1), kNaiveError));
      }
    }
  }
}

TEST_P(ActivationKernel, PlainAgreesWithScalarLoops) {
  const auto& [variant, type] = GetParam();
  const ScopedKernel forced("activation", variant.kernel, variant.target);
  for (const int64_t width : kWidths) {
    for (const Kind& kind : kKinds) {
      if (!takes(kind.kind)) continue;
      const at::Tensor x =
          (test::normal_tensor({3, width, 2}, type, 1) * 3).detach().requires_grad_();
      const at::Tensor dy = test::normal_tensor({3, width, 2}, type, 2);
      const at::Tensor y = activation(x, kind.kind);
      y.backward(dy);
      const auto inputs = test::to_doubles(x), cotangents = test::to_doubles(dy);
      std::vector<double> want(inputs.size()), want_dx(inputs.size());
      for (size_t i = 0; i < inputs.size(); ++i) {
        want[i] = test::naive_curve(kind.curve, inputs[i]);
        want_dx[i] = cotangents[i] * test::naive_curve_slope(kind.curve, inputs[i]);
      }
      EXPECT_TRUE(close(y, at::tensor(want, at::kDouble).view(x.sizes()), test::tolerance(type, 1),
                        kNaiveError));
      EXPECT_TRUE(close(x.grad(), at::tensor(want_dx, at::kDouble).view(x.sizes()),
                        test::tolerance(type, 1), kNaiveError));
    }
  }
}

TEST_P(ActivationKernel, ClampFollowsTheActivation) {
  const auto& [variant, type] = GetParam();
  const ScopedKernel forced("activation", variant.kernel, variant.target);
  const at::Tensor x = at::tensor({10.0, -9.0}, at::kDouble).to(type).view({1, 2});
  EXPECT_EQ(gated_activation(x, ActivationKind::kSilu, 7.0).item<double>(), -49.0);
  at::Tensor leaf = x.clone().requires_grad_();
  gated_activation(leaf, ActivationKind::kSilu, 7.0).sum().backward();
  EXPECT_TRUE(leaf.grad().eq(0).all().item<bool>());
}

/// gpt-oss: (clamp(u) + 1)·g·σ(1.702 g) of g = min(10, 7), u = -9 and of g = -9, u = 7.
TEST_P(ActivationKernel, ClampOnTheInputPrecedesTheActivation) {
  const auto& [variant, type] = GetParam();
  const ScopedKernel forced("activation", variant.kernel, variant.target);
  const at::Tensor x = at::tensor({10.0, -9.0, -9.0, 7.0}, at::kDouble).to(type).view({2, 2});
  const at::Tensor y = gated_activation(x, ActivationKind::kQuickGelu, {7.0, true, 1.0});
  const double tolerance = test::tolerance(type, 1);
  EXPECT_NEAR(y[0].item<double>(), -41.9997188, 42 * tolerance + 1e-6);
  EXPECT_NEAR(y[1].item<double>(), -8.0127e-6 * 2, 1.7e-5 * tolerance + 1e-9);
}

TEST_P(ActivationKernel, FarValuesAndNotANumber) {
  const auto& [variant, type] = GetParam();
  const ScopedKernel forced("activation", variant.kernel, variant.target);
  const at::Tensor x = at::tensor({-1e4, 1e4, std::nan("")}, at::kDouble).to(type);
  for (const Kind& kind : kKinds) {
    if (!takes(kind.kind)) continue;
    at::Tensor leaf = x.clone().requires_grad_();
    const at::Tensor y = activation(leaf, kind.kind);
    y.sum().backward();
    EXPECT_EQ(y[0].item<double>(), 0.0);
    EXPECT_EQ(y[1].item<double>(), x[1].item<double>());
    EXPECT_TRUE(std::isnan(y[2].item<double>()));
    EXPECT_EQ(leaf.grad()[0].item<double>(), 0.0);
    EXPECT_EQ(leaf.grad()[1].item<double>(), 1.0);
  }
  const at::Tensor pair = at::tensor({1.0, std::nan("")}, at::kDouble).to(type).view({1, 2});
  EXPECT_TRUE(std::isnan(gated_activation(pair, ActivationKind::kSilu, 7.0).item<double>()));
  EXPECT_TRUE(
      std::isnan(gated_activation(pair.flip(1), ActivationKind::kSilu, 7.0).item<double>()));
}

INSTANTIATE_TEST_SUITE_P(Simd, ActivationKernel,
                         testing::Combine(testing::ValuesIn(test::kernel_variants({"simd"}, {})),
                                          testing::Values(at::kFloat, at::kBFloat16)));
INSTANTIATE_TEST_SUITE_P(Reference, ActivationKernel,
                         testing::Combine(testing::Values(KernelVariant{"reference", ""}),
                                          testing::Values(at::kFloat, at::kDouble, at::kBFloat16,
                                                          at::kHalf)));

TEST(Activation, ForcedKernelSaysWhyItCannot) {
  const ScopedKernel forced("activation", "simd");
  try {
    activation(at::ones({3}), ActivationKind::kGelu);
    FAIL() << "no error";
  } catch (const UnsupportedError& error) {
    EXPECT_STREQ(error.what(),
                 "[activation] forced kernel 'simd' cannot run: erf-gelu has no vector form");
  }
  EXPECT_THROW(activation(at::ones({3}, at::kDouble), ActivationKind::kSilu), UnsupportedError);
}

TEST(Activation, EmptyInputs) {
  at::Tensor x = at::empty({0, 8}).requires_grad_();
  const at::Tensor y = gated_activation(x, ActivationKind::kSilu);
  EXPECT_EQ(y.sizes(), at::IntArrayRef({0, 4}));
  y.sum().backward();
  EXPECT_EQ(x.grad().sizes(), x.sizes());
}

TEST(Activation, RecordsNothingWithoutGradients) {
  at::Tensor x = at::ones({2, 4}).requires_grad_();
  EXPECT_TRUE(gated_activation(x, ActivationKind::kSilu).requires_grad());
  const at::NoGradGuard off;
  EXPECT_FALSE(gated_activation(x, ActivationKind::kSilu).requires_grad());
}

}  // namespace
}  // namespace headway::ops
