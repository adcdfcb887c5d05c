// Every norm kernel on every Highway target: against scalar loops, over dtypes, odd sizes, strided
// rows and flavours; the 16-bit roundings; bits that do not depend on threads.
#include "headway/ops/norm.h"

#include <ATen/Functions.h>
#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>

#include "tests/support/kernel_variants.h"
#include "tests/support/naive_rowwise.h"
#include "tests/support/tensors.h"
#include "tests/support/tolerance.h"

namespace headway::ops {
namespace {

using test::close;
using test::KernelVariant;

constexpr int64_t kWidths[] = {1, 2, 3, 7, 8, 24, 63, 64, 65, 130, 256, 300};
constexpr NormFlavour kFlavours[] = {NormFlavour::kPlain, NormFlavour::kZeroCentered,
                                     NormFlavour::kFp32Weight, NormFlavour::kNoWeight};

/// [tokens, heads, width] inside a wider fused projection: rows of a token lie together, tokens
/// apart.
at::Tensor strided_rows(int64_t tokens, int64_t heads, int64_t width, at::ScalarType type) {
  const at::Tensor fused = test::normal_tensor({tokens, heads * width + 5}, type, 11);
  return fused.narrow(1, 3, heads * width).view({tokens, heads, width}).detach();
}

test::Matrix rows_of(const at::Tensor& x) { return test::to_matrix(x.reshape({-1, x.size(-1)})); }

at::Tensor like(const test::Matrix& matrix, const at::Tensor& shape) {
  return test::from_matrix(matrix).view(shape.sizes());
}

at::Tensor vector_of(const std::vector<double>& values) { return at::tensor(values, at::kDouble); }

test::NaiveNorm naive_of(const at::Tensor& weight, NormFlavour flavour, double eps) {
  test::NaiveNorm norm;
  norm.eps = eps;
  if (weight.defined()) {
    norm.factor =
        test::to_doubles(flavour == NormFlavour::kZeroCentered ? weight.to(at::kDouble) + 1
                                                               : weight.to(at::kDouble));
  }
  return norm;
}

class NormKernel : public testing::TestWithParam<std::tuple<KernelVariant, at::ScalarType>> {
 protected:
  KernelVariant variant() const { return std::get<0>(GetParam()); }
  at::ScalarType type() const { return std::get<1>(GetParam()); }

  /// Checks y, dx and the gradients of weight and bias for the cotangent dy.
  void check(const at::Tensor& x, const test::NaiveNorm& norm, const at::Tensor& y,
             const at::Tensor& dy, const std::vector<at::Tensor>& gradients) {
    const int64_t width = x.size(-1), rows = x.numel() / width;
    const auto want = test::naive_norm_gradients(rows_of(x), norm, rows_of(dy));
    // Differences of nearly equal numbers keep the rounding of the statistics, times 1/rms.
    const double cancelled =
        40 * test::unit_roundoff(type() == at::kDouble ? type() : at::kFloat) / std::sqrt(norm.eps);
    const double of_means = norm.layer ? cancelled / 10 : 1e-30;
    const double of_terms = width <= 2 ? cancelled : 0.0;
    EXPECT_EQ(y.scalar_type(), type());
    EXPECT_TRUE(y.is_contiguous());
    EXPECT_TRUE(close(y, like(test::naive_norm(rows_of(x), norm), x),
                      test::tolerance(type(), width), of_means));
    EXPECT_TRUE(close(gradients[0], like(want.dx, x), test::tolerance(type(), width), of_terms));
    if (gradients.size() > 1 && gradients[1].defined()) {
      EXPECT_TRUE(close(gradients[1], vector_of(want.d_factor), test::tolerance(type(), rows)));
    }
    if (gradients.size() > 2 && gradients[2].defined()) {
      EXPECT_TRUE(close(gradients[2], vector_of(want.d_bias), test::tolerance(type(), rows)));
    }
  }
};

TEST_P(NormKernel, RmsAgreesWithScalarLoops) {
  const ScopedKernel forced("norm", variant().kernel, variant().target);
  for (const int64_t width : kWidths) {
    for (const NormFlavour flavour : kFlavours) {
      for (const bool strided : {false, true}) {
        SCOPED_TRACE(testing::Message() << "width " << width << " flavour "
                                        << static_cast<int>(flavour) << " strided " << strided);
        const at::Tensor x = (strided ? strided_rows(13, 3, width, type())
                                      : test::normal_tensor({37, width}, type(), 1))
                                 .requires_grad_();
        // In float32 for half of the cases of 16-bit types.
        const at::ScalarType weight_type = strided && type() != at::kDouble ? at::kFloat : type();
        at::Tensor weight;
        if (flavour != NormFlavour::kNoWeight) {
          weight = test::normal_tensor({width}, weight_type, 2).requires_grad_();
        }
        const at::Tensor dy = test::normal_tensor(x.sizes(), type(), 3);
        const at::Tensor y = rms_norm(x, weight, 1e-3, flavour);
        y.backward(dy);
        if (weight.defined()) {
          EXPECT_EQ(weight.grad().scalar_type(), weight_type);
        }
        check(x, naive_of(weight, flavour, 1e-3), y, dy,
              {x.grad(), weight.defined() ? weight.grad() : at::Tensor()});
      }
    }
  }
}

TEST_P(NormKernel, LayerAgreesWithScalarLoops) {
  const ScopedKernel forced("norm", variant().kernel, variant().target);
  for (const int64_t width : kWidths) {
    for (const int parts : {0, 1, 2, 3}) {  // bit 0: weight, bit 1: bias
      SCOPED_TRACE(testing::Message() << "width " << width << " parts " << parts);
      const at::Tensor x = (parts == 3 ? strided_rows(11, 3, width, type())
                                       : test::normal_tensor({34, width}, type(), 1))
                               .requires_grad_();
      at::Tensor weight, bias;
      if (parts & 1) weight = test::normal_tensor({width}, type(), 2).requires_grad_();
      if (parts & 2) bias = test::normal_tensor({width}, type(), 4).requires_grad_();
      const at::Tensor dy = test::normal_tensor(x.sizes(), type(), 3);
      const at::Tensor y = layer_norm(x, weight, bias, 1e-3);
      y.backward(dy);
      test::NaiveNorm norm = naive_of(weight, NormFlavour::kPlain, 1e-3);
      norm.layer = true;
      if (bias.defined()) norm.bias = test::to_doubles(bias);
      check(x, norm, y, dy,
            {x.grad(), weight.defined() ? weight.grad() : at::Tensor(),
             bias.defined() ? bias.grad() : at::Tensor()});
    }
  }
}

TEST_P(NormKernel, AddAgreesWithScalarLoops) {
  const ScopedKernel forced("norm", variant().kernel, variant().target);
  for (const int64_t width : kWidths) {
    for (const NormFlavour flavour : kFlavours) {
      SCOPED_TRACE(testing::Message() << "width " << width << " " << static_cast<int>(flavour));
      const at::Tensor residual = test::normal_tensor({35, width}, type(), 1).requires_grad_();
      const at::Tensor delta = test::normal_tensor({35, width}, type(), 5).requires_grad_();
      at::Tensor weight;
      if (flavour != NormFlavour::kNoWeight) {
        weight = test::normal_tensor({width}, type(), 2).requires_grad_();
      }
      const at::Tensor dy = test::normal_tensor({35, width}, type(), 3);
      const at::Tensor d_sum = test::normal_tensor({35, width}, type(), 6);
      const auto [sum, y] = add_rms_norm(residual, delta, weight, 1e-3, flavour);
      EXPECT_TRUE(test::same_bits(sum, (residual + delta).detach()));
      at::AutoGradMode on(true);
      at::sum(sum * d_sum).add(at::sum(y * dy)).backward();
      EXPECT_TRUE(test::same_bits(delta.grad(), residual.grad()));
      const test::NaiveNorm norm = naive_of(weight, flavour, 1e-3);
      auto want = test::naive_norm_gradients(rows_of(sum), norm, rows_of(dy));
      EXPECT_TRUE(close(y, like(test::naive_norm(rows_of(sum), norm), sum),
                        test::tolerance(type(), width), 1e-30));
      EXPECT_TRUE(close(residual.grad(), like(want.dx, sum) + d_sum.to(at::kDouble),
                        test::tolerance(type(), width)));
      if (weight.defined()) {
        EXPECT_TRUE(close(weight.grad(), vector_of(want.d_factor), test::tolerance(type(), 35)));
      }
    }
  }
}

TEST_P(NormKernel, AddWithOneUnusedResult) {
  const ScopedKernel forced("norm", variant().kernel, variant().target);
  const at::Tensor x = test::normal_tensor({5, 24}, type(), 1);
  const at::Tensor weight = test::normal_tensor({24}, type(), 2);
  const at::Tensor cotangent = test::normal_tensor({5, 24}, type(), 3);
  at::Tensor a = x.clone().requires_grad_(), b = at::zeros_like(x).requires_grad_();
  add_rms_norm(a, b, weight, 1e-3, NormFlavour::kPlain).first.backward(cotangent);
  EXPECT_TRUE(test::same_bits(a.grad(), cotangent));
  EXPECT_TRUE(test::same_bits(b.grad(), cotangent));
  at::Tensor c = x.clone().requires_grad_(), d = at::zeros_like(x).requires_grad_();
  add_rms_norm(c, d, weight, 1e-3, NormFlavour::kPlain).second.backward(cotangent);
  at::Tensor e = x.clone().requires_grad_();
  rms_norm(e, weight, 1e-3, NormFlavour::kPlain).backward(cotangent);
  EXPECT_TRUE(test::same_bits(d.grad(), e.grad()));
}

TEST_P(NormKernel, GoldenOfFourNumbers) {
  const ScopedKernel forced("norm", variant().kernel, variant().target);
  const at::Tensor x = at::tensor({1.0, 2.0, 3.0, 4.0}, at::kDouble).to(type());
  const at::Tensor weight = at::tensor({0.1, -0.2, 0.0, 0.5}, at::kDouble).to(type());
  const std::vector<double> zero_centred{0.401662941, 0.584237005, 1.095444385, 2.190888769};
  const std::vector<double> plain{0.036514813, -0.146059251, 0.0, 0.730296256};
  const double allowed = test::tolerance(type(), 1) + 1e-9;
  EXPECT_TRUE(close(rms_norm(x, weight, 1e-5, NormFlavour::kZeroCentered), vector_of(zero_centred),
                    allowed));
  EXPECT_TRUE(close(rms_norm(x, weight, 1e-5, NormFlavour::kPlain), vector_of(plain), allowed));
}

TEST_P(NormKernel, NoRowsAndZeroRows) {
  const ScopedKernel forced("norm", variant().kernel, variant().target);
  at::Tensor weight = test::normal_tensor({7}, type(), 2).requires_grad_();
  const at::Tensor empty = at::empty({0, 7}, at::dtype(type()));
  const at::Tensor y = rms_norm(empty, weight, 1e-6, NormFlavour::kPlain);
  EXPECT_EQ(y.sizes(), at::IntArrayRef({0, 7}));
  y.backward(at::empty_like(y));
  EXPECT_TRUE(test::same_bits(weight.grad(), at::zeros({7}, at::dtype(type()))));
  const at::Tensor zeros = at::zeros({2, 7}, at::dtype(type()));
  EXPECT_TRUE(test::same_bits(rms_norm(zeros, {}, 1e-6, NormFlavour::kNoWeight), zeros));
}

TEST_P(NormKernel, NotANumberStaysInItsRow) {
  const ScopedKernel forced("norm", variant().kernel, variant().target);
  at::Tensor x = test::normal_tensor({3, 24}, type(), 1);
  x[1][5].fill_(std::nan(""));
  const at::Tensor y = rms_norm(x, {}, 1e-6, NormFlavour::kNoWeight);
  EXPECT_TRUE(y[1].isnan().all().item<bool>());
  EXPECT_FALSE(y[0].isnan().any().item<bool>());
  EXPECT_FALSE(y[2].isnan().any().item<bool>());
}

INSTANTIATE_TEST_SUITE_P(Simd, NormKernel,
                         testing::Combine(testing::ValuesIn(test::kernel_variants({"simd"}, {})),
                                          testing::Values(at::kFloat, at::kBFloat16)));
INSTANTIATE_TEST_SUITE_P(Reference, NormKernel,
                         testing::Combine(testing::Values(KernelVariant{"reference", ""}),
                                          testing::Values(at::kFloat, at::kDouble, at::kBFloat16,
                                                          at::kHalf)));

/// Share of equal elements.
double equal_share(const at::Tensor& a, const at::Tensor& b) {
  return a.eq(b).to(at::kDouble).mean().item<double>();
}

TEST(Norm, SixteenBitFlavoursRoundWhereTheySay) {
  const at::Tensor x = test::normal_tensor({64, 130}, at::kBFloat16, 1);
  const at::Tensor weight = test::normal_tensor({130}, at::kBFloat16, 2);
  const at::Tensor wide = x.to(at::kDouble);
  const at::Tensor x_hat = wide * (wide.square().mean(-1, true) + 1e-6).rsqrt();
  // bfloat16 times bfloat16 in bfloat16, after x̂ was rounded; or all in one rounding.
  const at::Tensor twice = x_hat.to(at::kBFloat16) * weight;
  const at::Tensor once = (x_hat * weight.to(at::kDouble)).to(at::kBFloat16);
  const at::Tensor plus = (x_hat * (1 + weight.to(at::kDouble))).to(at::kBFloat16);
  ASSERT_LT(equal_share(once, twice), 0.9);
  for (const auto& variant : test::kernel_variants({"simd"}, {"reference"})) {
    SCOPED_TRACE(testing::PrintToString(variant));
    const ScopedKernel forced("norm", variant.kernel, variant.target);
    EXPECT_GT(equal_share(rms_norm(x, weight, 1e-6, NormFlavour::kPlain), twice), 0.995);
    EXPECT_GT(equal_share(rms_norm(x, weight, 1e-6, NormFlavour::kFp32Weight), once), 0.995);
    EXPECT_GT(equal_share(rms_norm(x, weight, 1e-6, NormFlavour::kZeroCentered), plus), 0.995);
  }
}

TEST(Norm, BitsDoNotDependOnThreads) {
  const at::Tensor x = test::normal_tensor({3001, 65}, at::kFloat, 1);
  const at::Tensor dy = test::normal_tensor({3001, 65}, at::kFloat, 2);
  const int threads = at::get_num_threads();
  std::vector<at::Tensor> results;
  for (const int count : {1, 2, 3}) {
    at::set_num_threads(count);
    at::Tensor leaf = x.clone().requires_grad_(), weight = at::ones({65}).requires_grad_();
    const at::Tensor y = rms_norm(leaf, weight, 1e-6, NormFlavour::kPlain);
    y.backward(dy);
    results.push_back(at::cat({y.detach().flatten(), leaf.grad().flatten(), weight.grad()}));
  }
  at::set_num_threads(threads);
  EXPECT_TRUE(test::same_bits(results[1], results[0]));
  EXPECT_TRUE(test::same_bits(results[2], results[0]));
}

TEST(Norm, RowsOfAnyStridesAreTaken) {
  const ScopedKernel forced("norm", "simd");
  // Three strides remain here, so the rows are copied.
  const at::Tensor x = test::normal_tensor({3, 5, 7, 24}, at::kFloat, 1).transpose(0, 2);
  EXPECT_TRUE(test::same_bits(rms_norm(x, {}, 1e-6, NormFlavour::kNoWeight),
                              rms_norm(x.contiguous(), {}, 1e-6, NormFlavour::kNoWeight)));
  const at::Tensor row = test::normal_tensor({1, 24}, at::kFloat, 2);
  EXPECT_TRUE(test::same_bits(rms_norm(row.expand({4, 24}), {}, 1e-6, NormFlavour::kNoWeight),
                              rms_norm(row.repeat({4, 1}), {}, 1e-6, NormFlavour::kNoWeight)));
}

TEST(Norm, OnlyAskedGradientsAreMade) {
  const at::Tensor x = test::normal_tensor({4, 8}, at::kFloat, 1);
  at::Tensor weight = at::ones({8}).requires_grad_();
  EXPECT_FALSE(rms_norm(x, at::ones({8}), 1e-6, NormFlavour::kPlain).requires_grad());
  rms_norm(x, weight, 1e-6, NormFlavour::kPlain).sum().backward();
  EXPECT_TRUE(weight.grad().defined());
  const at::NoGradGuard off;
  EXPECT_FALSE(rms_norm(x, weight, 1e-6, NormFlavour::kPlain).requires_grad());
}

}  // namespace
}  // namespace headway::ops
