// The largest attention logit: both kernels against scalar loops over dtype, grouping, windows and
// packing.
// Not for: the running maximum of a layer (tests/unit/nn/max_logit_test.cpp).
#include "headway/ops/attention_max_logit.h"

#include <cmath>
#include <limits>

#include <ATen/Functions.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "headway/base/error.h"
#include "headway/ops/kernel_table.h"

#include "tests/support/message_of.h"
#include "tests/support/tensors.h"
#include "tests/support/tolerance.h"

namespace headway {
namespace {

using testing::HasSubstr;

struct Case {
  int64_t heads, groups, dim;
  std::vector<int64_t> cu_q, cu_k;
  int64_t left, right;
  double scale;
};

ops::Sequences sequences_of(const Case& c) {
  ops::Sequences sequences;
  sequences.cu_q = c.cu_q;
  sequences.cu_k = c.cu_k;
  return sequences;
}

ops::AttentionOptions options_of(const Case& c) {
  ops::AttentionOptions options;
  options.scale = c.scale;
  options.rule = {c.left, c.right};
  options.softcap = 3.0;  // not part of what is measured
  return options;
}

at::Tensor naive(const at::Tensor& q, const at::Tensor& k, const Case& c) {
  const at::Tensor qd = q.to(at::kDouble).contiguous(), kd = k.to(at::kDouble).contiguous();
  const auto qa = qd.accessor<double, 3>(), ka = kd.accessor<double, 3>();
  at::Tensor result = at::full({c.heads}, -std::numeric_limits<double>::infinity(), at::kDouble);
  double* best = result.data_ptr<double>();
  for (size_t n = 0; n + 1 < c.cu_q.size(); ++n) {
    const int64_t sq = c.cu_q[n + 1] - c.cu_q[n], sk = c.cu_k[n + 1] - c.cu_k[n];
    for (int64_t i = 0; i < sq; ++i) {
      for (int64_t j = 0; j < sk; ++j) {
        const int64_t at = i + sk - sq;
        if (c.left >= 0 && j < at - c.left) continue;
        if (c.right >= 0 && j > at + c.right) continue;
        for (int64_t h = 0; h < c.heads; ++h) {
          double dot = 0.0;
          for (int64_t d = 0; d < c.dim; ++d) {
            dot += qa[c.cu_q[n] + i][h][d] * ka[c.cu_k[n] + j][h / (c.heads / c.groups)][d];
          }
          best[h] = std::max(best[h], c.scale * dot);
        }
      }
    }
  }
  return result;
}

std::vector<Case> cases() {
  return {
      {1, 1, 1, {0, 1}, {0, 1}, -1, 0, 1.0},
      {4, 2, 8, {0, 5, 5, 18}, {0, 5, 5, 18}, -1, 0, 0.35},
      {6, 2, 16, {0, 300, 333}, {0, 300, 333}, -1, 0, 0.25},
      {4, 1, 24, {0, 290}, {0, 290}, 15, 0, 0.2},
      {4, 4, 8, {0, 20}, {0, 20}, 3, 2, -0.4},
      {2, 1, 8, {0, 3, 10}, {0, 1500, 1520}, -1, 0, 0.5},
      {3, 3, 7, {0, 9, 11}, {0, 4, 4}, -1, -1, 0.3},
      {8, 2, 64, {0, 70, 71}, {0, 70, 1200}, 600, 0, 0.125},
  };
}

class MaxLogitCase : public testing::TestWithParam<std::tuple<int, at::ScalarType>> {};

TEST_P(MaxLogitCase, EveryKernelMatchesScalarLoops) {
  const Case c = cases()[std::get<0>(GetParam())];
  const at::ScalarType type = std::get<1>(GetParam());
  // Views of one fused projection, as the layers give them.
  const at::Tensor q =
      test::normal_tensor({c.cu_q.back(), c.heads + 2, c.dim}, type, 1).narrow(1, 1, c.heads);
  const at::Tensor k =
      test::normal_tensor({c.cu_k.back(), c.groups + 1, c.dim}, type, 2).narrow(1, 1, c.groups);
  const at::Tensor want = naive(q, k, c);
  for (const char* kernel : {"cpu", "reference"}) {
    if (type == at::kDouble && std::string(kernel) == "cpu") continue;
    const ops::ScopedKernel forced("attention_max_logit", kernel);
    const at::Tensor got = ops::attention_max_logit(q, k, sequences_of(c), options_of(c));
    EXPECT_EQ(got.scalar_type(), type == at::kDouble ? at::kDouble : at::kFloat);
    EXPECT_FALSE(got.requires_grad());
    const at::Tensor seen = want.isneginf();
    EXPECT_TRUE(at::equal(got.isneginf(), seen)) << kernel;
    const at::ScalarType sums = type == at::kDouble ? at::kDouble : at::kFloat;
    EXPECT_TRUE(test::close(got.masked_fill(seen, 0).to(at::kDouble), want.masked_fill(seen, 0),
                            test::tolerance(sums, c.dim)))
        << kernel;
  }
}

INSTANTIATE_TEST_SUITE_P(All, MaxLogitCase,
                         testing::Combine(testing::Range(0, 8),
                                          testing::Values(at::kDouble, at::kFloat, at::kBFloat16,
                                                          at::kHalf)));

TEST(MaxLogit, RunsRepeatAndNanIsSeen) {
  const Case c = cases()[2];
  const at::Tensor q = test::normal_tensor({c.cu_q.back(), c.heads, c.dim}, at::kFloat, 3);
  at::Tensor k = test::normal_tensor({c.cu_k.back(), c.groups, c.dim}, at::kFloat, 4);
  const auto run = [&] { return ops::attention_max_logit(q, k, sequences_of(c), options_of(c)); };
  EXPECT_TRUE(test::same_bits(run(), run()));
  k[17][1][0] = NAN;  // the second kv head: query heads 3 to 5
  const at::Tensor got = run();
  for (int64_t h = 0; h < c.heads; ++h) {
    EXPECT_EQ(std::isnan(got[h].item<float>()), h >= 3) << h;
  }
}

template <class E>
std::string error(const at::Tensor& q, const at::Tensor& k, const Case& c) {
  return testing_support::message_of<E>(
      [&] { ops::attention_max_logit(q, k, sequences_of(c), options_of(c)); });
}

TEST(MaxLogit, Errors) {
  Case c{4, 2, 8, {0, 5}, {0, 5}, -1, 0, 1.0};
  const at::Tensor q = at::ones({5, 4, 8}), k = at::ones({5, 2, 8});
  EXPECT_THAT(error<ShapeError>(q.flatten(1), k, c),
              HasSubstr("[attention_max_logit] q = [5, 32]"));
  EXPECT_THAT(error<ShapeError>(q, at::ones({5, 3, 8}), c), HasSubstr("divides the 4 of q"));
  EXPECT_THAT(error<ShapeError>(q, at::ones({5, 2, 6}), c), HasSubstr("head dim 8 of q"));
  EXPECT_THAT(error<ShapeError>(q, k.to(at::kHalf), c), HasSubstr("the dtype of q"));
  EXPECT_THAT(error<ShapeError>(q, at::ones({6, 2, 8}), c), HasSubstr("sequences.cu_k"));
  c.scale = NAN;
  EXPECT_THAT(error<ConfigError>(q, k, c), HasSubstr("options.scale"));
  c.scale = 1.0;
  c.left = -2;
  EXPECT_THAT(error<ConfigError>(q, k, c), HasSubstr("options.rule = (-2, 0)"));
}

}  // namespace
}  // namespace headway
