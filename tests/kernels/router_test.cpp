// Routing: every kernel against scalar loops over scores, groups, biases and odd sizes; published
// values; gradients against differences. Not for: losses and capacity (router_balance_test.cpp).
#include "headway/ops/router.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include <ATen/Functions.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "headway/base/error.h"

#include "tests/support/kernel_variants.h"
#include "tests/support/numeric_gradient.h"
#include "tests/support/tensors.h"
#include "tests/support/tolerance.h"

namespace headway::ops {
namespace {

using test::close;
using test::gradients_agree;
using test::KernelVariant;
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

struct NaiveChoice {
  std::vector<int64_t> experts;
  std::vector<double> weights;
};

std::vector<int64_t> by_falling(const std::vector<double>& keys) {
  std::vector<int64_t> order(keys.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(),
                   [&](int64_t a, int64_t b) { return keys[a] > keys[b]; });
  return order;
}

NaiveChoice naive_route(const std::vector<double>& z, const std::vector<double>& bias,
                        const RouterOptions& o) {
  const std::vector<double> s = naive_scores(z, o.score);
  std::vector<double> keys = o.score == RouterScore::kSoftmax && o.normalize ? z : s;
  for (size_t e = 0; e < bias.size(); ++e) keys[e] += bias[e];
  const int64_t members = static_cast<int64_t>(z.size()) / o.num_groups;
  std::vector<double> group_keys;
  for (int64_t g = 0; g < o.num_groups; ++g) {
    std::vector<double> own(keys.begin() + g * members, keys.begin() + (g + 1) * members);
    std::sort(own.rbegin(), own.rend());
    group_keys.push_back(std::accumulate(own.begin(), own.begin() + o.best_of_group, 0.0));
  }
  const auto groups = by_falling(group_keys);
  for (size_t i = static_cast<size_t>(o.kept_groups); i < groups.size(); ++i) {
    for (int64_t e = 0; e < members; ++e) {
      keys[groups[i] * members + e] = -std::numeric_limits<double>::infinity();
    }
  }
  NaiveChoice choice;
  choice.experts = by_falling(keys);
  choice.experts.resize(o.top_k);
  double sum = 1e-20;
  for (const int64_t e : choice.experts) sum += s[e];
  for (const int64_t e : choice.experts) {
    choice.weights.push_back(o.scale * s[e] / (o.normalize ? sum : 1.0));
  }
  return choice;
}

RouterOptions make(int64_t top_k, RouterScore score, bool normalize, int64_t groups = 1,
                   int64_t kept = 1, int64_t best = 1) {
  RouterOptions o;
  o.top_k = top_k;
  o.score = score;
  o.normalize = normalize;
  o.scale = 2.5;
  o.num_groups = groups;
  o.kept_groups = kept;
  o.best_of_group = best;
  return o;
}

constexpr RouterScore kScores[] = {RouterScore::kSoftmax, RouterScore::kSigmoid,
                                   RouterScore::kSqrtSoftplus};

class RouteKernel : public testing::TestWithParam<std::tuple<KernelVariant, at::ScalarType>> {};

void expect_naive(const at::Tensor& logits, const at::Tensor& bias, const RouterOptions& o) {
  const Routing got = route(logits, bias, o);
  const Rows rows = rows_of(logits);
  const auto biases = bias.defined() ? test::to_doubles(bias) : std::vector<double>();
  const auto experts = test::to_integers(got.experts_TK.flatten());
  const auto weights = test::to_doubles(got.weights_TK.flatten());
  const double allowed = test::tolerance(got.weights_TK.scalar_type(), logits.size(1));
  for (size_t t = 0; t < rows.size(); ++t) {
    const NaiveChoice want = naive_route(rows[t], biases, o);
    for (int64_t j = 0; j < o.top_k; ++j) {
      const size_t at = t * static_cast<size_t>(o.top_k) + static_cast<size_t>(j);
      EXPECT_EQ(experts[at], want.experts[j]) << "token " << t << " choice " << j;
      EXPECT_NEAR(weights[at], want.weights[j], allowed * o.scale);
    }
  }
}

TEST_P(RouteKernel, AgreesWithScalarLoops) {
  const auto& [variant, type] = GetParam();
  const ScopedKernel forced("route", variant.kernel);
  uint64_t seed = 1;
  for (const int64_t experts : {1, 2, 7, 12, 64, 130}) {
    for (const RouterScore score : kScores) {
      for (const bool normalize : {true, false}) {
        for (const int64_t top_k : {int64_t{1}, std::min<int64_t>(experts, 6), experts}) {
          SCOPED_TRACE(testing::Message() << experts << " experts, score "
                                          << static_cast<int>(score) << " top " << top_k);
          const at::Tensor logits = normal_tensor({9, experts}, type, ++seed) * 2;
          const at::Tensor bias = score == RouterScore::kSoftmax
                                      ? at::Tensor()
                                      : normal_tensor({experts}, type, ++seed) * 0.3;
          expect_naive(logits, bias, make(top_k, score, normalize));
        }
      }
    }
  }
}

TEST_P(RouteKernel, GroupsAgreeWithScalarLoops) {
  const auto& [variant, type] = GetParam();
  const ScopedKernel forced("route", variant.kernel);
  uint64_t seed = 100;
  for (const RouterScore score : kScores) {
    for (const auto& [groups, kept, best, top_k] :
         {std::tuple{4, 2, 2, 4}, {4, 3, 1, 3}, {2, 1, 3, 5}, {12, 5, 1, 5}, {3, 3, 2, 6}}) {
      const at::Tensor logits = normal_tensor({11, 24}, type, ++seed);
      const bool biased = score != RouterScore::kSoftmax;
      const at::Tensor bias = biased ? normal_tensor({24}, type, ++seed) - 1 : at::Tensor();
      for (const bool normalize : {true, false}) {
        expect_naive(logits, bias, make(top_k, score, normalize, groups, kept, best));
      }
    }
  }
}

TEST_P(RouteKernel, EqualKeysGoToTheLowerExpertAndNaNShows) {
  const auto& [variant, type] = GetParam();
  const ScopedKernel forced("route", variant.kernel);
  const at::Tensor flat = at::zeros({1, 9}, type);
  const auto order = route(flat, {}, make(4, RouterScore::kSoftmax, true)).experts_TK;
  EXPECT_THAT(test::to_integers(order.flatten()), ElementsAre(0, 1, 2, 3));
  const auto groups = route(flat, {}, make(4, RouterScore::kSigmoid, true, 3, 2, 2)).experts_TK;
  EXPECT_THAT(test::to_integers(groups.flatten()), ElementsAre(0, 1, 2, 3));
  at::Tensor broken = flat.clone();
  broken[0][5] = std::nan("");
  const Routing routing = route(broken, {}, make(2, RouterScore::kSigmoid, true));
  EXPECT_EQ(routing.experts_TK[0][0].item<int64_t>(), 5);
  EXPECT_TRUE(std::isnan(routing.weights_TK[0][0].item<double>()));
}

TEST_P(RouteKernel, GradientsAgreeWithDifferences) {
  const auto& [variant, type] = GetParam();
  if (type != at::kDouble) return;
  const ScopedKernel forced("route", variant.kernel);
  uint64_t seed = 7;
  for (const RouterScore score : kScores) {
    for (const bool normalize : {true, false}) {
      for (const int64_t groups : {1, 4}) {
        const auto o = make(3, score, normalize, groups, groups == 1 ? 1 : 2, 1);
        const at::Tensor logits = normal_tensor({5, 12}, at::kDouble, ++seed) * 3;
        const auto weights = [&](const std::vector<at::Tensor>& inputs) {
          return std::vector<at::Tensor>{route(inputs[0], {}, o).weights_TK};
        };
        EXPECT_TRUE(gradients_agree(weights, {logits}, ++seed));
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(All, RouteKernel,
                         testing::Combine(testing::Values(KernelVariant{"rows", ""},
                                                          KernelVariant{"reference", ""}),
                                          testing::Values(at::kFloat, at::kDouble)));

TEST(Route, PublishedSigmoidValues) {
  const at::Tensor z = at::tensor({.5, -.2, 1.5, .1, -1.0, 2.0, .3, .4}, at::kDouble).view({1, 8});
  const at::Tensor bias = at::tensor({0.0, .3, -.5, 0.0, .6, -.6, .2, 0.0}, at::kDouble);
  const Routing plain = route(z, bias, make(4, RouterScore::kSigmoid, true));
  EXPECT_THAT(test::to_integers(plain.experts_TK.flatten()), ElementsAre(4, 6, 1, 0));
  EXPECT_TRUE(close(plain.weights_TK.flatten(),
                    at::tensor({.35091352, .74952993, .58737451, .81218204}, at::kDouble), 1e-8));
  const Routing grouped = route(z, bias, make(4, RouterScore::kSigmoid, true, 4, 2, 2));
  EXPECT_THAT(test::to_integers(grouped.experts_TK.flatten()), ElementsAre(6, 1, 0, 7));
  EXPECT_TRUE(close(grouped.weights_TK.flatten(),
                    at::tensor({.63947580, .50112980, .69292865, .66646576}, at::kDouble), 1e-8));
}

TEST(Route, BiasChoosesButDoesNotWeigh) {
  RouterOptions o = make(2, RouterScore::kSigmoid, true);
  o.scale = 3.0;
  const at::Tensor z = at::tensor({.5, -1.0, 2.0, 0.0}, at::kDouble).view({1, 4});
  const at::Tensor bias = at::tensor({0.0, .9, -.6, .1}, at::kDouble);
  const Routing routing = route(z, bias, o);
  EXPECT_THAT(test::to_integers(routing.experts_TK.flatten()), ElementsAre(1, 0));
  EXPECT_TRUE(close(routing.weights_TK.flatten(),
                    at::tensor({0.905119568, 2.094880432}, at::kDouble), 1e-9));
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

TEST(Route, ErrorsNameTheArgument) {
  const at::Tensor z = at::zeros({2, 6});
  const auto with = [&](RouterOptions o, const at::Tensor& bias = {}) {
    return error_of([&] { route(z, bias, o); });
  };
  EXPECT_THAT(with(make(7, RouterScore::kSoftmax, true)), HasSubstr("top_k = 7"));
  EXPECT_THAT(with(make(1, RouterScore::kSigmoid, true, 4, 1, 1)), HasSubstr("num_groups = 4"));
  EXPECT_THAT(with(make(1, RouterScore::kSigmoid, true, 3, 4, 1)), HasSubstr("kept_groups = 4"));
  EXPECT_THAT(with(make(1, RouterScore::kSigmoid, true, 3, 1, 3)), HasSubstr("best_of_group = 3"));
  EXPECT_THAT(with(make(3, RouterScore::kSigmoid, true, 3, 1, 1)), HasSubstr("top_k = 3"));
  EXPECT_THAT(with(make(1, RouterScore::kSoftmax, true), at::zeros({6})),
              HasSubstr("none with softmax"));
  EXPECT_THAT(with(make(1, RouterScore::kSigmoid, true), at::zeros({5})), HasSubstr("bias"));
  EXPECT_THAT(error_of([] { route(at::zeros({2}), {}, {}); }), HasSubstr("[T,E]"));
}

}  // namespace
}  // namespace headway::ops
