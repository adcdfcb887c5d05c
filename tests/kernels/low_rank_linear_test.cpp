// low_rank_linear against the projection with its weight formed, forward and backward, in every
// dtype, with and without magnitudes; gradients by finite differences; what it refuses.
#include "headway/ops/low_rank_linear.h"

#include <cmath>

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "headway/base/error.h"

#include "tests/support/message_of.h"
#include "tests/support/numeric_gradient.h"
#include "tests/support/tensors.h"
#include "tests/support/tolerance.h"

namespace headway::ops {
namespace {

using test::close;
using test::normal_tensor;
using testing::HasSubstr;
using testing_support::message_of;

constexpr int64_t kInputs = 12, kOutputs = 20, kRank = 3;

struct Problem {
  at::Tensor x, weight, bias, d_y;
  LowRank pairs;
};

at::Tensor leaf(const at::Tensor& x) { return x.detach().clone().set_requires_grad(true); }

/// Rows 2 to 8 and 9 to 19 of 20 carry a pair.
Problem make(at::ScalarType type, int64_t tokens, bool magnitude) {
  Problem p;
  p.x = leaf(normal_tensor({tokens, kInputs}, type, 1));
  p.weight = normal_tensor({kOutputs, kInputs}, type, 2);
  p.bias = normal_tensor({kOutputs}, type, 3);
  p.d_y = normal_tensor({tokens, kOutputs}, type, 4);
  p.pairs.runs = {{2, 7}, {9, 11}};
  p.pairs.a_NI = leaf(normal_tensor({2 * kRank, kInputs}, type, 5));
  p.pairs.b_PR = leaf(normal_tensor({18, kRank}, type, 6));
  if (magnitude) p.pairs.magnitude_P = leaf(normal_tensor({18}, type, 7));
  p.pairs.scale = 0.75;
  return p;
}

/// The formula: the weight with its runs replaced, norms taken out of the graph.
at::Tensor formed(const Problem& p) {
  int64_t first = 0;
  std::vector<at::Tensor> parts = {p.weight.narrow(0, 0, 2)};
  for (int64_t i = 0; i < 2; ++i) {
    const LowRank::Run& run = p.pairs.runs[static_cast<size_t>(i)];
    at::Tensor own = p.weight.narrow(0, run.begin, run.rows) +
                     p.pairs.scale * at::mm(p.pairs.b_PR.narrow(0, first, run.rows),
                                            p.pairs.a_NI.narrow(0, i * kRank, kRank));
    if (p.pairs.magnitude_P.defined()) {
      const at::Tensor norm = own.detach().square().sum(1).sqrt();
      own = own * (p.pairs.magnitude_P.narrow(0, first, run.rows) / norm).unsqueeze(1);
    }
    parts.push_back(own);
    first += run.rows;
  }
  return at::mm(p.x, at::cat(parts).t()) + p.bias;
}

class LowRankLinear : public testing::TestWithParam<std::tuple<at::ScalarType, bool>> {};

TEST_P(LowRankLinear, IsTheProjectionWithItsWeightFormed) {
  const auto& [type, magnitude] = GetParam();
  for (const int64_t tokens : {1, 5, 33}) {
    const Problem p = make(type, tokens, magnitude);
    Problem exact = make(type, tokens, magnitude);
    for (at::Tensor* x : {&exact.x, &exact.weight, &exact.bias, &exact.d_y, &exact.pairs.a_NI,
                          &exact.pairs.b_PR, &exact.pairs.magnitude_P}) {
      if (x->defined()) *x = leaf(x->to(at::kDouble));
    }
    const at::Tensor want = formed(exact), got = low_rank_linear(p.x, p.weight, p.bias, p.pairs);
    want.backward(exact.d_y);
    got.backward(p.d_y);
    const double allowed = 6 * test::tolerance(type, kInputs + tokens);
    EXPECT_EQ(got.scalar_type(), type);
    EXPECT_TRUE(close(got, want, allowed));
    EXPECT_TRUE(close(p.x.grad(), exact.x.grad(), allowed));
    EXPECT_TRUE(close(p.pairs.a_NI.grad(), exact.pairs.a_NI.grad(), allowed));
    EXPECT_TRUE(close(p.pairs.b_PR.grad(), exact.pairs.b_PR.grad(), allowed));
    if (magnitude) {
      EXPECT_TRUE(close(p.pairs.magnitude_P.grad(), exact.pairs.magnitude_P.grad(), allowed));
    }
    const at::NoGradGuard no_grad;
    EXPECT_TRUE(test::same_bits(low_rank_linear(p.x, p.weight, p.bias, p.pairs), got));
  }
}

TEST_P(LowRankLinear, RowsWithoutAPairAreTheProjectionAlone) {
  const auto& [type, magnitude] = GetParam();
  const at::NoGradGuard no_grad;
  const Problem p = make(type, 4, magnitude);
  const at::Tensor y = low_rank_linear(p.x, p.weight, p.bias, p.pairs);
  const at::Tensor plain = at::mm(p.x, p.weight.t()) + p.bias;
  EXPECT_TRUE(close(y.narrow(1, 0, 2), plain.narrow(1, 0, 2), test::tolerance(type, kInputs)));
}

INSTANTIATE_TEST_SUITE_P(Types, LowRankLinear,
                         testing::Combine(testing::Values(at::kFloat, at::kDouble, at::kBFloat16),
                                          testing::Bool()));

TEST(LowRankLinear, GradientsAgreeWithFiniteDifferences) {
  const Problem p = make(at::kDouble, 6, false);
  const auto run = [&p](const std::vector<at::Tensor>& in) -> std::vector<at::Tensor> {
    LowRank pairs = p.pairs;
    pairs.a_NI = in[1];
    pairs.b_PR = in[2];
    return {low_rank_linear(in[0], p.weight, p.bias, pairs)};
  };
  EXPECT_TRUE(test::gradients_agree(run, {p.x, p.pairs.a_NI, p.pairs.b_PR}, 1));
  // Of magnitudes only their own gradient is a derivative: norms count as constant.
  const Problem dora = make(at::kDouble, 6, true);
  const auto scaled = [&dora](const std::vector<at::Tensor>& in) -> std::vector<at::Tensor> {
    LowRank pairs = dora.pairs;
    pairs.magnitude_P = in[1];
    return {low_rank_linear(in[0], dora.weight, dora.bias, pairs)};
  };
  EXPECT_TRUE(test::gradients_agree(scaled, {dora.x, dora.pairs.magnitude_P}, 2));
}

TEST(LowRankLinear, MagnitudesOfTheirOwnNormsChangeNothing) {
  const at::NoGradGuard no_grad;
  Problem p = make(at::kDouble, 4, false);
  const at::Tensor want = low_rank_linear(p.x, p.weight, p.bias, p.pairs);
  p.pairs.magnitude_P = low_rank_row_norms(p.weight, p.pairs);
  EXPECT_TRUE(close(low_rank_linear(p.x, p.weight, p.bias, p.pairs), want, 1e-14));
}

TEST(LowRankLinear, RefusesWhatDoesNotFit) {
  const auto message = [](auto change) {
    Problem p = make(at::kFloat, 2, true);
    change(p);
    return message_of<Error>([&] { low_rank_linear(p.x, p.weight, p.bias, p.pairs); });
  };
  EXPECT_THAT(message([](Problem& p) { p.pairs.runs[1].begin = 3; }), HasSubstr("runs = 3"));
  EXPECT_THAT(message([](Problem& p) { p.pairs.runs[1].rows = 12; }), HasSubstr("runs = 9"));
  EXPECT_THAT(message([](Problem& p) { p.pairs.runs.clear(); }), HasSubstr("runs = none"));
  EXPECT_THAT(message([](Problem& p) {
                p.pairs.b_PR = at::zeros({17, kRank});
              }),
              HasSubstr("b = [17, 3], allowed [18,R]"));
  EXPECT_THAT(message([](Problem& p) {
                p.pairs.a_NI = at::zeros({kRank, kInputs});
              }),
              HasSubstr("a = [3, 12]"));
  EXPECT_THAT(message([](Problem& p) { p.pairs.magnitude_P = at::zeros({20}); }),
              HasSubstr("magnitude = [20]"));
  EXPECT_THAT(message([](Problem& p) { p.pairs.scale = NAN; }), HasSubstr("scale = nan"));
  EXPECT_THAT(message([](Problem& p) { p.weight.set_requires_grad(true); }),
              HasSubstr("allowed a frozen weight and bias"));
}

}  // namespace
}  // namespace headway::ops
