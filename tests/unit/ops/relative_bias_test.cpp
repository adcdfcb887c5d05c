// T5's buckets against worked numbers, and the gradient of a bias that two layers share.
// Not for: attention with a bias (tests/kernels/attention_mask_test.cpp).
#include "headway/ops/relative_bias.h"

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "headway/base/error.h"
#include "headway/ops/attention.h"

#include "tests/support/message_of.h"

namespace headway::ops {
namespace {

using testing::HasSubstr;

TEST(RelativeBias, BucketsOfT5) {
  // 32 buckets, max distance 128: the values of the published code.
  const RelativeBiasOptions both;
  const std::vector<std::pair<int64_t, int64_t>> want = {
      {0, 0},    {-1, 1},   {-7, 7},    {-8, 8},     {-11, 8}, {-12, 9}, {-16, 10}, {-32, 12},
      {-64, 14}, {-91, 15}, {-128, 15}, {-4000, 15}, {1, 17},  {7, 23},  {8, 24},   {500, 31}};
  for (const auto& [distance, bucket] : want) {
    EXPECT_EQ(relative_bucket(distance, 32, both), bucket) << distance;
  }
  const RelativeBiasOptions back{.bidirectional = false};
  EXPECT_EQ(relative_bucket(5, 32, back), 0);
  EXPECT_EQ(relative_bucket(-15, 32, back), 15);
  EXPECT_EQ(relative_bucket(-16, 32, back), 16);
  EXPECT_EQ(relative_bucket(-127, 32, back), 31);
  EXPECT_EQ(relative_bucket(-9999, 32, back), 31);
}

TEST(RelativeBias, AlignsAtTheBottomRight) {
  const at::Tensor table = at::arange(0, 16, at::kDouble).view({8, 2});
  const RelativeBiasOptions back{.bidirectional = false, .max_distance = 16};
  const at::Tensor whole = relative_bias(table, 6, 6, back);
  EXPECT_EQ(whole.sizes(), at::IntArrayRef({1, 2, 6, 6}));
  EXPECT_TRUE(at::equal(relative_bias(table, 2, 6, back), whole.narrow(2, 4, 2)));
  EXPECT_EQ(whole[0][1][3][3].item<double>(), 1.0);
  EXPECT_EQ(whole[0][0][3][1].item<double>(), 4.0) << "two tokens back: bucket 2";
}

TEST(RelativeBias, ASharedBiasGetsTheGradientOfBothLayers) {
  const at::Tensor table = (at::arange(0, 16, at::kDouble).view({8, 2}) * 0.1).requires_grad_();
  const at::Tensor x = at::sin(at::arange(0, 2 * 5 * 3, at::kDouble)).view({5, 2, 3});
  const Sequences sequences = equal_sequences(1, 5);
  const auto loss = [&](const at::Tensor& bias) {
    AttentionOptions options;
    options.bias = bias;
    const at::Tensor once = attention(x, x, x, {}, sequences, options);
    return attention(once, x, x, {}, sequences, options).square().sum();
  };
  const RelativeBiasOptions bias_options{.bidirectional = true, .max_distance = 4};
  loss(relative_bias(table, 5, 5, bias_options)).backward();
  constexpr double kStep = 1e-6;
  for (const int64_t bucket : {0, 1, 2}) {
    const auto at_step = [&](double step) {
      at::Tensor moved = table.detach().clone();
      moved[bucket][1] += step;
      return loss(relative_bias(moved, 5, 5, bias_options)).item<double>();
    };
    const double numeric = (at_step(kStep) - at_step(-kStep)) / (2 * kStep);
    EXPECT_GT(std::abs(numeric), 1e-6);
    EXPECT_NEAR(table.grad()[bucket][1].item<double>(), numeric, 1e-8);
  }
}

template <class E>
std::string error_of(const at::Tensor& table, const RelativeBiasOptions& options) {
  return testing_support::message_of<E>([&] { relative_bias(table, 3, 3, options); });
}

TEST(RelativeBias, Errors) {
  EXPECT_THAT(error_of<ShapeError>(at::zeros({8}), {}), HasSubstr("[buckets, heads]"));
  EXPECT_THAT(error_of<ConfigError>(at::zeros({7, 2}), {}), HasSubstr("buckets = 7"));
  EXPECT_THAT(error_of<ConfigError>(at::zeros({2, 2}), {}), HasSubstr("buckets = 2"));
  EXPECT_THAT(error_of<ConfigError>(at::zeros({32, 2}), {.max_distance = 8}),
              HasSubstr("max_distance = 8, allowed more than 8"));
}

}  // namespace
}  // namespace headway::ops
