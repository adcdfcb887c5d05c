// What surrounds the choice of a router: auxiliary losses against their definitions and
// differences, counts, capacity, balanced assignment. Not for: the choice itself (router_test.cpp).
#include <cmath>
#include <numeric>

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "headway/base/error.h"
#include "headway/ops/router.h"

#include "tests/support/kernel_variants.h"
#include "tests/support/numeric_gradient.h"
#include "tests/support/tensors.h"

namespace headway::ops {
namespace {

using test::close;
using test::gradients_agree;
using test::normal_tensor;
using testing::ElementsAre;
using testing::HasSubstr;

using Rows = std::vector<std::vector<double>>;

Rows rows_of(const at::Tensor& x) {
  const auto flat = test::to_doubles(x.flatten());
  Rows rows;
  for (int64_t t = 0; t < x.size(0); ++t) {
    rows.emplace_back(flat.begin() + t * x.size(1), flat.begin() + (t + 1) * x.size(1));
  }
  return rows;
}

std::vector<double> naive_scores(const std::vector<double>& z, RouterScore score) {
  std::vector<double> s(z.size());
  double sum = 0;
  for (size_t e = 0; e < z.size(); ++e) {
    if (score == RouterScore::kSoftmax) sum += s[e] = std::exp(z[e]);
    if (score == RouterScore::kSigmoid) s[e] = 1 / (1 + std::exp(-z[e]));
    if (score == RouterScore::kSqrtSoftplus) s[e] = std::sqrt(std::log1p(std::exp(z[e])));
  }
  if (score == RouterScore::kSoftmax) {
    for (double& value : s) value /= sum;
  }
  return s;
}

constexpr RouterScore kScores[] = {RouterScore::kSoftmax, RouterScore::kSigmoid,
                                   RouterScore::kSqrtSoftplus};

Routing routed(const at::Tensor& logits, int64_t top_k, RouterScore score) {
  RouterOptions options;
  options.top_k = top_k;
  options.score = score;
  return route(logits, {}, options);
}

template <class Run>
std::string error_of(const Run& run) {
  try {
    run();
  } catch (const ShapeError& error) {
    return error.what();
  }
  return "no ShapeError";
}

/// The definition, one loop after another.
std::vector<double> naive_losses(const BalanceInput& in, const BalanceOptions& o) {
  const Rows z = rows_of(in.logits_TE), n = rows_of(in.counts_NE);
  const size_t experts = z[0].size(), documents = n.size();
  Rows mass(documents, std::vector<double>(experts, 0.0));
  std::vector<double> tokens(documents, 0.0);
  double total = 0, squares = 0;
  for (size_t d = 0; d < documents; ++d) {
    for (int64_t t = in.boundaries[d]; t < in.boundaries[d + 1]; ++t) {
      if (in.valid_T.defined() && !in.valid_T[t].item<bool>()) continue;
      std::vector<double> p = naive_scores(z[t], o.score);
      const double sum = std::accumulate(p.begin(), p.end(), 0.0);
      double peak = 0;
      for (const double value : z[t]) peak += std::exp(value);
      squares += std::log(peak) * std::log(peak);
      for (size_t e = 0; e < experts; ++e) mass[d][e] += p[e] / sum;
      tokens[d] += 1;
      total += 1;
    }
  }
  std::vector<double> losses;
  for (const BalanceLoss& loss : o.losses) {
    double value = 0;
    for (size_t d = 0; d < documents; ++d) {
      const double own = in.valid_T.defined() ? std::floor(total / double(documents)) : tokens[d];
      const bool apart = loss.kind == BalanceKind::kSequence;
      for (size_t e = 0; e < experts; ++e) {
        double count = n[d][e];
        if (!apart) {
          count = 0;
          for (size_t other = 0; other < documents; ++other) count += n[other][e];
        }
        if (loss.kind == BalanceKind::kGlobal && in.mean_counts_E.defined()) {
          count = in.mean_counts_E[static_cast<int64_t>(e)].item<double>();
        }
        const double length = apart ? own * own * double(documents) : total * total;
        value += loss.coefficient * double(experts) / double(o.top_k) * mass[d][e] * count / length;
      }
    }
    losses.push_back(value);
  }
  if (o.z_loss > 0) losses.push_back(o.z_loss * squares / total);
  return losses;
}

class Balance : public testing::TestWithParam<RouterScore> {
 protected:
  BalanceInput input(bool with_mask) const {
    BalanceInput in;
    in.logits_TE = normal_tensor({13, 6}, at::kDouble, 3) * 2;
    in.boundaries = {0, 4, 5, 13};
    if (with_mask) in.valid_T = at::arange(13).remainder(5) != 2;
    const Routing routing = routed(in.logits_TE, 2, GetParam());
    in.counts_NE = count_choices(routing.experts_TK, 6, in.boundaries, in.valid_T);
    in.mean_counts_E = normal_tensor({6}, at::kDouble, 4).abs();
    return in;
  }
  BalanceOptions options() const {
    BalanceOptions o;
    o.score = GetParam();
    o.top_k = 2;
    o.losses = {
        {BalanceKind::kBatch, 0.1}, {BalanceKind::kSequence, 0.2}, {BalanceKind::kGlobal, 0.3}};
    o.z_loss = 0.02;
    return o;
  }
};

TEST_P(Balance, LossesAreTheirDefinitions) {
  for (const bool mask : {false, true}) {
    const BalanceInput in = input(mask);
    const at::Tensor want = at::tensor(naive_losses(in, options()), at::kDouble);
    EXPECT_TRUE(close(balance_losses(in, options()), want, 1e-13)) << mask;
    BalanceInput narrow = in;
    narrow.logits_TE = in.logits_TE.to(at::kFloat);
    EXPECT_TRUE(close(balance_losses(narrow, options()), want, 1e-5));
  }
}

TEST_P(Balance, GradientsAgreeWithDifferences) {
  for (const bool mask : {false, true}) {
    const auto losses = [&](const std::vector<at::Tensor>& inputs) {
      BalanceInput in = input(mask);
      in.logits_TE = inputs[0];
      return std::vector<at::Tensor>{balance_losses(in, options())};
    };
    EXPECT_TRUE(gradients_agree(losses, {input(mask).logits_TE}, 11));
  }
}

INSTANTIATE_TEST_SUITE_P(Scores, Balance, testing::ValuesIn(kScores));

TEST(BalanceLosses, PerfectBalanceCostsTheCoefficient) {
  BalanceInput in;
  in.logits_TE = at::zeros({8, 4}, at::kDouble);
  in.boundaries = {0, 8};
  in.counts_NE = at::full({1, 4}, 4.0, at::kDouble);
  BalanceOptions o;
  o.top_k = 2;
  o.losses = {{BalanceKind::kBatch, 0.7}};
  EXPECT_NEAR(balance_losses(in, o).item<double>(), 0.7, 1e-12);
}

TEST(BalanceLosses, EntropyIsOneForFlatLogitsAndZeroForCertainOnes) {
  for (const RouterScore score : kScores) {
    EXPECT_NEAR(routing_entropy(at::zeros({3, 5}), score), 1.0, 1e-6);
  }
  at::Tensor certain = at::zeros({3, 5});
  certain.select(1, 2).fill_(1e4);
  EXPECT_NEAR(routing_entropy(certain, RouterScore::kSoftmax), 0.0, 1e-6);
  EXPECT_EQ(routing_entropy(at::zeros({3, 1}), RouterScore::kSigmoid), 0.0);
}

TEST(Capacity, KeepsTheLargestWeightsOrTheEarliestTokens) {
  const at::Tensor experts = at::tensor({0, 1, 0, 2, 0, 1, 1, 0}, at::kLong).view({4, 2});
  const at::Tensor weights = at::tensor({.1, .9, .5, .5, .7, .3, .2, .5}, at::kDouble).view({4, 2});
  const auto left = [&](int64_t capacity, DropPolicy policy) {
    return test::to_integers(limit_capacity(experts, weights, 3, capacity, policy).flatten());
  };
  EXPECT_THAT(left(2, DropPolicy::kWeights), ElementsAre(-1, 1, 0, 2, 0, 1, -1, -1));
  EXPECT_THAT(left(2, DropPolicy::kPosition), ElementsAre(0, 1, 0, 2, -1, 1, -1, -1));
  EXPECT_THAT(left(0, DropPolicy::kPosition), testing::Each(-1));
  EXPECT_THAT(left(4, DropPolicy::kWeights), ElementsAre(0, 1, 0, 2, 0, 1, 1, 0));
  EXPECT_EQ(expert_capacity(20, 2, 6, 0.7), 5);
  EXPECT_EQ(expert_capacity(1, 2, 6, 0.7), 1);
}

TEST(Capacity, CountsSkipDroppedChoicesAndInvalidTokens) {
  const at::Tensor experts = at::tensor({0, 1, -1, 2, 0, 1}, at::kLong).view({3, 2});
  EXPECT_TRUE(at::equal(count_choices(experts, 3, {0, 2, 3}),
                        at::tensor({1., 1., 1., 1., 1., 0.}, at::kDouble).view({2, 3})));
  EXPECT_TRUE(at::equal(count_choices(experts, 3, {0, 3}, at::tensor({0, 1, 1}).to(at::kBool)),
                        at::tensor({1., 1., 1.}, at::kDouble).view({1, 3})));
  EXPECT_THAT(error_of([&] { count_choices(experts, 2, {0, 3}); }), HasSubstr("below 2"));
  EXPECT_THAT(error_of([&] { count_choices(experts, 3, {0, 2}); }), HasSubstr("boundaries"));
}

TEST(Sinkhorn, SharesAreEqualAndDecideTheChoice) {
  const at::Tensor logits =
      normal_tensor({60, 5}, at::kDouble, 9) + at::tensor({3.0, 0.0, 0.0, 0.0, -1.0}, at::kDouble);
  const at::Tensor keys = sinkhorn_keys(logits);
  EXPECT_TRUE(close(keys.sum(0), at::full({5}, 0.2, at::kDouble), 1e-3));
  EXPECT_TRUE(close(keys.sum(1), at::full({60}, 1.0 / 60, at::kDouble), 0.05));
  RouterOptions options;
  options.normalize = false;
  const auto spread = [&](const at::Tensor& by) {
    const Routing routing = route(logits, {}, options, by);
    return count_choices(routing.experts_TK, 5, {0, 60}).max().item<double>();
  };
  EXPECT_GT(spread({}), 30.0);
  EXPECT_LE(spread(keys), 20.0);
  for (const char* kernel : {"rows", "reference"}) {
    const ScopedKernel forced("route", kernel);
    const Routing routing = route(logits, {}, options, keys);
    EXPECT_TRUE(at::equal(routing.experts_TK.squeeze(1), keys.argmax(1)));
    EXPECT_TRUE(
        close(routing.weights_TK, at::softmax(logits, -1).gather(1, routing.experts_TK), 1e-14));
  }
  EXPECT_THAT(error_of([&] { route(logits, {}, options, keys.narrow(0, 0, 3)); }),
              HasSubstr("keys"));
}

}  // namespace
}  // namespace headway::ops
