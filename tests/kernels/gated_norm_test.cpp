// Every kernel of the gated norm on every Highway target against the reference in double, and that
// against the formula from plain norm and gate; the decay map and unit-length vectors.
#include "headway/ops/gated_norm.h"

#include <ATen/Functions.h>
#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <gtest/gtest.h>

#include "tests/support/kernel_variants.h"
#include "tests/support/numeric_gradient.h"
#include "tests/support/tensors.h"
#include "tests/support/tolerance.h"

namespace headway::ops {
namespace {

using test::close;
using test::KernelVariant;

constexpr NormFlavour kFlavours[] = {NormFlavour::kPlain, NormFlavour::kZeroCentered,
                                     NormFlavour::kFp32Weight, NormFlavour::kNoWeight};

struct Case {
  at::Tensor x, z, weight, d_y;
  GatedNormOptions options;
};

/// z is a part of a wider projection.
Case make_case(int64_t width, NormFlavour flavour, NormGate gate, at::ScalarType type) {
  Case c;
  c.x = test::normal_tensor({11, 3, width}, type, 1);
  c.z = test::normal_tensor({11, 3 * width + 5}, type, 2)
            .narrow(1, 4, 3 * width)
            .view({11, 3, width})
            .detach();
  if (flavour != NormFlavour::kNoWeight) c.weight = test::normal_tensor({width}, type, 3);
  c.d_y = test::normal_tensor({11, 3, width}, type, 4);
  c.options = {1e-3, flavour, gate};
  return c;
}

std::vector<at::Tensor> run(const Case& c, at::ScalarType type) {
  const auto leaf = [&](const at::Tensor& x) {
    return x.defined() ? x.detach().to(type).requires_grad_() : at::Tensor();
  };
  const at::Tensor x = leaf(c.x), z = leaf(c.z), weight = leaf(c.weight);
  const at::Tensor y = gated_rms_norm(x, z, weight, c.options);
  y.backward(c.d_y.to(type));
  return {y.detach(), x.grad(), z.grad(), weight.defined() ? weight.grad() : at::Tensor()};
}

class GatedNormKernel : public testing::TestWithParam<std::tuple<KernelVariant, at::ScalarType>> {};

TEST_P(GatedNormKernel, AgreesWithTheReferenceInDouble) {
  const auto& [variant, type] = GetParam();
  for (const int64_t width : {1, 3, 8, 12, 65, 128, 300}) {
    for (const NormFlavour flavour : kFlavours) {
      for (const NormGate gate : {NormGate::kSilu, NormGate::kSigmoid}) {
        SCOPED_TRACE(testing::Message()
                     << width << " " << static_cast<int>(flavour) << " " << static_cast<int>(gate));
        const Case c = make_case(width, flavour, gate, type);
        std::vector<at::Tensor> want;
        {
          const ScopedKernel forced("gated_rms_norm", "reference");
          want = run(c, at::kDouble);
        }
        const ScopedKernel forced("gated_rms_norm", variant.kernel, variant.target);
        const auto got = run(c, type);
        EXPECT_EQ(got[0].scalar_type(), type);
        // Differences of nearly equal numbers in rows of a single channel keep a rounding.
        const double of_terms = width == 1 ? 1e-4 : 1e-30;
        for (size_t i = 0; i < got.size(); ++i) {
          if (!want[i].defined()) continue;
          EXPECT_TRUE(close(got[i], want[i], 2 * test::tolerance(type, i == 3 ? 33 : width),
                            i == 1 ? of_terms : 1e-30));
        }
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Simd, GatedNormKernel,
                         testing::Combine(testing::ValuesIn(test::kernel_variants({"simd"}, {})),
                                          testing::Values(at::kFloat, at::kBFloat16)));
INSTANTIATE_TEST_SUITE_P(Reference, GatedNormKernel,
                         testing::Combine(testing::Values(KernelVariant{"reference", ""}),
                                          testing::Values(at::kFloat, at::kBFloat16, at::kHalf)));

TEST(GatedNorm, IsTheNormTimesTheGate) {
  for (const NormFlavour flavour : kFlavours) {
    const Case c = make_case(12, flavour, NormGate::kSilu, at::kDouble);
    const at::Tensor norm = rms_norm(c.x, c.weight, 1e-3, flavour);
    EXPECT_TRUE(
        close(gated_rms_norm(c.x, c.z, c.weight, c.options), norm * c.z * c.z.sigmoid(), 1e-14));
  }
}

TEST(GatedNorm, AnalyticEqualsNumericGradient) {
  for (const NormGate gate : {NormGate::kSilu, NormGate::kSigmoid}) {
    const Case c = make_case(7, NormFlavour::kZeroCentered, gate, at::kDouble);
    const auto function = [&](const std::vector<at::Tensor>& x) {
      return std::vector<at::Tensor>{gated_rms_norm(x[0], x[1], x[2], c.options)};
    };
    EXPECT_TRUE(test::gradients_agree(function, {c.x, c.z, c.weight}, 5, 1e-8));
  }
}

TEST(GatedNorm, BitsDoNotDependOnThreads) {
  at::Tensor x = test::normal_tensor({3001, 65}, at::kFloat, 1);
  const at::Tensor z = test::normal_tensor({3001, 65}, at::kFloat, 2);
  const int threads = at::get_num_threads();
  std::vector<at::Tensor> results;
  for (const int count : {1, 2, 3}) {
    at::set_num_threads(count);
    at::Tensor weight = at::ones({65}).requires_grad_();
    gated_rms_norm(x, z, weight, {}).backward(z);
    results.push_back(weight.grad());
  }
  at::set_num_threads(threads);
  EXPECT_TRUE(test::same_bits(results[1], results[0]));
  EXPECT_TRUE(test::same_bits(results[2], results[0]));
}

}  // namespace
}  // namespace headway::ops
