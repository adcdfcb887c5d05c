// Every kernel of linear + cross-entropy against scalar loops, forward and backward.
#include "headway/ops/linear_cross_entropy.h"

#include <cmath>
#include <cstring>
#include <vector>

#include <ATen/Functions.h>
#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <c10/core/CPUAllocator.h>
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
  int64_t tokens, width, vocabulary;
  double softcap = 0.0, z_loss = 0.0;
  int64_t divisor = 0;
  int ignore_every = 0;  // every n-th label is ignored, 0 = none
};

const Case kCases[] = {
    {1, 1, 1},
    {3, 5, 2},
    {7, 4, 33, 2.0},
    {16, 8, 100, 0.0, 0.01},
    {9, 6, 17, 1.5, 0.1, 40, 2},
    {33, 16, 257, 0.0, 0.0, 0, 3},
    {5, 3, 1000, 30.0, 1e-4, 0, 1},
    {4, 7, 4999, 20.0, 1e-3},
    {3, 7, 4999},
};

struct Results {
  double loss, ce;
  int64_t counted;
  at::Tensor dx, dw;
};

at::Tensor labels_of(const Case& c) {
  at::Tensor labels = test::integer_tensor({c.tokens}, 0, c.vocabulary, 3);
  for (int64_t t = 0; c.ignore_every > 0 && t < c.tokens; t += c.ignore_every) labels[t] = -100;
  return labels;
}

Results run_op(const Case& c, at::ScalarType type, double grad = 1.0) {
  at::Tensor x = test::normal_tensor({c.tokens, c.width}, type, 1).requires_grad_();
  at::Tensor weight = test::normal_tensor({c.vocabulary, c.width}, type, 2).requires_grad_();
  const CrossEntropyOptions options{c.softcap, c.z_loss, -100, c.divisor};
  const auto result = linear_cross_entropy(x, weight, labels_of(c), options);
  result.loss.backward(at::full_like(result.loss, grad));
  EXPECT_FALSE(result.ce.requires_grad());
  return {result.loss.item<double>(), result.ce.item<double>(), result.num_counted, x.grad(),
          weight.grad()};
}

test::NaiveCrossEntropy run_naive(const Case& c, at::ScalarType type) {
  return test::naive_cross_entropy(
      test::to_matrix(test::normal_tensor({c.tokens, c.width}, type, 1)),
      test::to_matrix(test::normal_tensor({c.vocabulary, c.width}, type, 2)),
      test::to_integers(labels_of(c)), {c.softcap, c.z_loss, -100, c.divisor});
}

void expect_agreement(const Case& c, at::ScalarType type) {
  const Results got = run_op(c, type);
  const auto want = run_naive(c, type);
  // Rounded logits shift the loss by about their size times one rounding.
  const double relative = test::tolerance(type, c.width + 8);
  EXPECT_EQ(got.counted, want.counted);
  EXPECT_NEAR(got.loss, want.loss, relative * (1 + std::abs(want.loss)));
  EXPECT_NEAR(got.ce, want.ce, relative * (1 + std::abs(want.ce)));
  const double absolute = want.counted > 0 && c.vocabulary == 1 ? 1e-7 : 0.0;
  EXPECT_TRUE(close(got.dx, test::from_matrix(want.dx), 2 * relative, absolute));
  EXPECT_TRUE(close(got.dw, test::from_matrix(want.dw), 2 * relative, absolute));
  EXPECT_EQ(got.dx.scalar_type(), type);
}

using KernelCase = std::tuple<test::KernelVariant, at::ScalarType, Case>;
class CrossEntropyKernels : public testing::TestWithParam<KernelCase> {};

TEST_P(CrossEntropyKernels, AgreeWithScalarLoops) {
  const auto& [variant, type, c] = GetParam();
  ScopedKernel forced("linear_cross_entropy", variant.kernel, variant.target);
  expect_agreement(c, type);
}

INSTANTIATE_TEST_SUITE_P(Simd, CrossEntropyKernels,
                         testing::Combine(testing::ValuesIn(test::kernel_variants({"chunked"}, {})),
                                          testing::Values(at::kFloat, at::kBFloat16),
                                          testing::ValuesIn(kCases)));
INSTANTIATE_TEST_SUITE_P(
    Plain, CrossEntropyKernels,
    testing::Combine(testing::ValuesIn(test::kernel_variants({}, {"library", "reference"})),
                     testing::Values(at::kFloat, at::kDouble, at::kBFloat16),
                     testing::ValuesIn(kCases)));

TEST(LinearCrossEntropy, LogitThatIsNotFiniteShowsInTheLoss) {
  for (const auto& variant : test::kernel_variants({"chunked"}, {"library", "reference"})) {
    ScopedKernel forced("linear_cross_entropy", variant.kernel, variant.target);
    for (const float bad : {NAN, INFINITY, -INFINITY}) {
      const at::Tensor x = at::ones({2, 3});
      at::Tensor weight = test::normal_tensor({40, 3}, at::kFloat, 2);
      weight[37][1] = bad;
      const auto result = linear_cross_entropy(x, weight, at::zeros({2}, at::kLong), {});
      if (bad == -INFINITY && variant.kernel != "chunked") continue;  // exp(-inf) = 0 is a number
      EXPECT_FALSE(std::isfinite(result.loss.item<float>())) << variant << " " << bad;
    }
  }
}

TEST(LinearCrossEntropy, SeveralChunksEqualOne) {
  // 600 counted tokens of 70,001 logits in float32 are 168 MB: three chunks of many blocks. The
  // reference holds them all; in double, for float32 sums of 70,001 terms would blur it.
  const Case c{700, 4, 70001, 0.0, 1e-3, 0, 7};
  ScopedKernel reference("linear_cross_entropy", "reference");
  const Results whole = run_op(c, at::kDouble);
  for (const auto& variant : test::kernel_variants({"chunked"}, {"library"})) {
    ScopedKernel forced("linear_cross_entropy", variant.kernel, variant.target);
    const Results chunked = run_op(c, at::kFloat);
    const double relative = variant.kernel == "chunked" ? 2e-5 : 1e-3;
    EXPECT_NEAR(chunked.loss, whole.loss, 1e-6 * whole.loss) << variant;
    EXPECT_TRUE(close(chunked.dx, whole.dx, relative)) << variant;
    EXPECT_TRUE(close(chunked.dw, whole.dw, relative)) << variant;
  }
}

TEST(LinearCrossEntropy, BitsDoNotDependOnThreads) {
  const Case c{300, 40, 9000, 10.0, 1e-3, 0, 7};
  const int threads = at::get_num_threads();
  std::vector<Results> runs;
  for (const int count : {1, 2, 3}) {
    at::set_num_threads(count);
    runs.push_back(run_op(c, at::kFloat));
  }
  at::set_num_threads(threads);
  for (size_t i = 1; i < runs.size(); ++i) {
    EXPECT_EQ(runs[i].loss, runs[0].loss);
    EXPECT_TRUE(test::same_bits(runs[i].dx, runs[0].dx));
    EXPECT_TRUE(test::same_bits(runs[i].dw, runs[0].dw));
  }
}

TEST(LinearCrossEntropy, BackwardScalesByTheGradientOfTheLoss) {
  const Case c{7, 4, 33};
  const Results one = run_op(c, at::kDouble), half = run_op(c, at::kDouble, 0.5);
  EXPECT_TRUE(close(half.dx, one.dx * 0.5, 1e-15));
  EXPECT_TRUE(close(half.dw, one.dw * 0.5, 1e-15));
}

TEST(LinearCrossEntropy, KeptGraphRunsBackwardTwice) {
  at::Tensor x = test::normal_tensor({5, 4}, at::kDouble, 1).requires_grad_();
  at::Tensor weight = test::normal_tensor({9, 4}, at::kDouble, 2).requires_grad_();
  const auto result = linear_cross_entropy(x, weight, test::integer_tensor({5}, 0, 9, 3), {});
  result.loss.backward({}, /*retain_graph=*/true);
  const at::Tensor dx = x.grad().clone(), dw = weight.grad().clone();
  result.loss.backward();
  EXPECT_TRUE(close(x.grad(), dx * 2, 1e-15));
  EXPECT_TRUE(close(weight.grad(), dw * 2, 1e-15));
  EXPECT_THROW(result.loss.backward(), std::exception);
}

/// The CPU allocator, counting allocations of one size while it is installed.
class CountingAllocator : public c10::Allocator {
 public:
  explicit CountingAllocator(size_t bytes) : inner_(c10::GetCPUAllocator()), bytes_(bytes) {
    c10::SetCPUAllocator(this, 255);
  }
  ~CountingAllocator() override { c10::SetCPUAllocator(inner_, 255); }
  c10::DataPtr allocate(size_t bytes) override {
    count += bytes == bytes_;
    return inner_->allocate(bytes);
  }
  c10::DeleterFnPtr raw_deleter() const override { return inner_->raw_deleter(); }
  void copy_data(void* to, const void* from, std::size_t bytes) const override {
    std::memcpy(to, from, bytes);
  }
  int count = 0;

 private:
  c10::Allocator* inner_;
  size_t bytes_;
};

TEST(LinearCrossEntropy, GradientOfTheWeightIsAllocatedOnceAndNeverCopied) {
  at::Tensor x = test::normal_tensor({3, 8}, at::kFloat, 1).requires_grad_();
  at::Tensor weight = test::normal_tensor({5003, 8}, at::kFloat, 2).requires_grad_();
  const at::Tensor labels = test::integer_tensor({3}, 0, 5003, 3);
  CountingAllocator counting(5003 * 8 * sizeof(float));
  const auto result = linear_cross_entropy(x, weight, labels, {});
  EXPECT_EQ(counting.count, 1);
  result.loss.backward();
  EXPECT_EQ(counting.count, 1);
  EXPECT_TRUE(weight.grad().defined());
}

TEST(LinearCrossEntropy, GivesOnlyTheGradientsAsked) {
  const at::Tensor x = test::normal_tensor({5, 4}, at::kFloat, 1);
  at::Tensor weight = test::normal_tensor({9, 4}, at::kFloat, 2).requires_grad_();
  const at::Tensor labels = test::integer_tensor({5}, 0, 9, 3);
  linear_cross_entropy(x, weight, labels, {}).loss.backward();
  EXPECT_TRUE(weight.grad().defined());
  EXPECT_FALSE(x.grad().defined());
  at::NoGradGuard off;
  EXPECT_FALSE(linear_cross_entropy(x, weight, labels, {}).loss.requires_grad());
}

TEST(LinearCrossEntropy, NoCountedTokenIsZeroEverywhere) {
  at::Tensor x = test::normal_tensor({3, 4}, at::kFloat, 1).requires_grad_();
  at::Tensor weight = test::normal_tensor({9, 4}, at::kFloat, 2).requires_grad_();
  const auto result = linear_cross_entropy(x, weight, at::full({3}, -100, at::kLong), {});
  result.loss.backward();
  EXPECT_EQ(result.num_counted, 0);
  EXPECT_EQ(result.loss.item<float>(), 0.0f);
  EXPECT_EQ(x.grad().abs().max().item<float>(), 0.0f);
  EXPECT_EQ(weight.grad().abs().max().item<float>(), 0.0f);
}

TEST(LinearCrossEntropy, SumOfPartsWithACommonDivisorIsTheWhole) {
  const at::Tensor x = test::normal_tensor({8, 4}, at::kDouble, 1);
  const at::Tensor weight = test::normal_tensor({9, 4}, at::kDouble, 2);
  const at::Tensor labels = test::integer_tensor({8}, 0, 9, 3);
  CrossEntropyOptions options;
  const double whole = linear_cross_entropy(x, weight, labels, options).loss.item<double>();
  options.divisor = 8;
  double parts = 0;
  for (const int64_t first : {0, 4}) {
    parts +=
        linear_cross_entropy(x.narrow(0, first, 4), weight, labels.narrow(0, first, 4), options)
            .loss.item<double>();
  }
  EXPECT_NEAR(parts, whole, 1e-14);
}

TEST(LinearCrossEntropy, NamesWhatIsWrong) {
  const at::Tensor x = at::zeros({3, 4}), weight = at::zeros({9, 4});
  const at::Tensor labels = test::integer_tensor({3}, 0, 9, 3);
  const auto error = [](const at::Tensor& a, const at::Tensor& w, const at::Tensor& l,
                        const CrossEntropyOptions& options = {}) -> std::string {
    try {
      linear_cross_entropy(a, w, l, options);
    } catch (const Error& e) {
      return e.what();
    }
    return "no error";
  };
  at::Tensor bad = labels.clone();
  bad[1] = 9;
  EXPECT_THAT(error(x, weight, bad),
              HasSubstr("labels[1] = 9, allowed 0 .. 8 or ignore_index (= -100)"));
  bad[1] = -1;
  EXPECT_THAT(error(x, weight, bad), HasSubstr("labels[1] = -1"));
  EXPECT_THAT(error(x, weight.t(), labels), HasSubstr("weight = [4, 9], allowed [V,4]"));
  EXPECT_THAT(error(x, weight, labels.narrow(0, 0, 2)), HasSubstr("labels = [2], allowed [3]"));
  EXPECT_THAT(error(x, weight, labels.to(at::kInt)), HasSubstr("labels = Int, allowed int64"));
  EXPECT_THAT(error(x.to(at::kDouble), weight, labels),
              HasSubstr("weight = Float, allowed Double"));
  EXPECT_THAT(error(x, weight, labels, {-1.0}), HasSubstr("options.softcap = -1"));
  EXPECT_THAT(error(x, weight, labels, {0.0, NAN}), HasSubstr("options.z_loss = nan"));
}

}  // namespace
}  // namespace headway::ops
