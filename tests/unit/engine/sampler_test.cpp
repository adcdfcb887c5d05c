// Which tokens every option keeps, how often they are drawn, and what a draw depends on.
#include "headway/engine/sampler.h"

#include <cmath>
#include <limits>
#include <set>

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "headway/base/error.h"

namespace headway::engine {
namespace {

constexpr double kInf = std::numeric_limits<double>::infinity();

at::Tensor logits_of(const std::vector<double>& probabilities) {
  return at::tensor(probabilities, at::kDouble).log();
}

/// Share of each token in `draws` draws at consecutive positions.
std::vector<double> frequencies(const at::Tensor& logits, const SamplerOptions& options,
                                const std::vector<int64_t>& history = {}, int draws = 20000) {
  std::vector<double> counts(logits.size(0), 0.0);
  for (int i = 0; i < draws; ++i) {
    counts[sample_token(logits, history, options, {11, 5, static_cast<uint64_t>(i)})] += 1;
  }
  for (double& count : counts) count /= draws;
  return counts;
}

/// Four standard deviations of a share of 20,000 draws.
void expect_shares(const std::vector<double>& got, const std::vector<double>& want) {
  ASSERT_EQ(got.size(), want.size());
  for (size_t i = 0; i < got.size(); ++i) {
    EXPECT_NEAR(got[i], want[i], 4 * std::sqrt(want[i] * (1 - want[i]) / 20000)) << "token " << i;
  }
}

TEST(Sampler, DrawsByProbability) {
  expect_shares(frequencies(logits_of({0.1, 0.2, 0.05, 0.4, 0.25}), {}),
                {0.1, 0.2, 0.05, 0.4, 0.25});
}

TEST(Sampler, ZeroTemperatureTakesTheLowestOfTheLikeliest) {
  SamplerOptions greedy;
  greedy.temperature = 0.0;
  EXPECT_EQ(sample_token(at::tensor({1.0, 3.0, 2.0, 3.0}), {}, greedy, {}), 1);
  EXPECT_EQ(sample_token(at::tensor({-kInf, -5.0, -kInf}), {}, greedy, {}), 1);
  EXPECT_EQ(sample_token(at::zeros({4}, at::kBFloat16), {}, greedy, {}), 0);
}

TEST(Sampler, TemperatureSharpensAndFlattens) {
  SamplerOptions options;
  options.temperature = 0.5;  // squares the probabilities
  expect_shares(frequencies(logits_of({0.5, 0.3, 0.2}), options),
                {0.25 / 0.38, 0.09 / 0.38, 0.04 / 0.38});
  options.temperature = 1e-300;
  expect_shares(frequencies(logits_of({0.2, 0.5, 0.3}), options), {0, 1, 0});
  options.temperature = 1e300;
  const auto flat = frequencies(logits_of({0.98, 0.01, 0.01}), options);
  expect_shares(flat, {1.0 / 3, 1.0 / 3, 1.0 / 3});
}

TEST(Sampler, TopKKeepsTheLargestAndTiesOfTheLastOne) {
  SamplerOptions options;
  options.top_k = 2;
  expect_shares(frequencies(logits_of({0.1, 0.4, 0.3, 0.2}), options), {0, 4.0 / 7, 3.0 / 7, 0});
  expect_shares(frequencies(logits_of({0.2, 0.4, 0.2, 0.2}), options), {0.2, 0.4, 0.2, 0.2});
  options.top_k = 1;
  expect_shares(frequencies(logits_of({0.1, 0.4, 0.3, 0.2}), options), {0, 1, 0, 0});
  options.top_k = 100;
  expect_shares(frequencies(logits_of({0.1, 0.4, 0.3, 0.2}), options), {0.1, 0.4, 0.3, 0.2});
}

TEST(Sampler, TopPKeepsTheFewestThatReachIt) {
  SamplerOptions options;
  const at::Tensor logits = logits_of({0.1, 0.4, 0.3, 0.2});
  options.top_p = 0.6;  // 0.4 does not reach it, 0.4 + 0.3 does
  expect_shares(frequencies(logits, options), {0, 4.0 / 7, 3.0 / 7, 0});
  options.top_p = 1e-9;
  expect_shares(frequencies(logits, options), {0, 1, 0, 0});
  options.top_p = 0.95;
  expect_shares(frequencies(logits, options), {0.1, 0.4, 0.3, 0.2});
  options.top_p = 1.0;
  expect_shares(frequencies(logits, options), {0.1, 0.4, 0.3, 0.2});
  options.top_p = 0.3;  // of equal tokens the first stay
  expect_shares(frequencies(logits_of({0.25, 0.25, 0.25, 0.25}), options), {0.5, 0.5, 0, 0});
}

TEST(Sampler, MinPKeepsAPartOfTheLargest) {
  SamplerOptions options;
  options.min_p = 0.6;
  expect_shares(frequencies(logits_of({0.1, 0.4, 0.3, 0.2}), options), {0, 4.0 / 7, 3.0 / 7, 0});
  options.min_p = 1.0;
  expect_shares(frequencies(logits_of({0.1, 0.4, 0.3, 0.2}), options), {0, 1, 0, 0});
}

TEST(Sampler, RepetitionPenaltyTouchesSeenTokensOnceBySign) {
  SamplerOptions greedy;
  greedy.temperature = 0.0;
  greedy.repetition_penalty = 2.0;
  const at::Tensor logits = at::tensor({3.0, 2.0, 1.0});
  EXPECT_EQ(sample_token(logits, {}, greedy, {}), 0);
  EXPECT_EQ(sample_token(logits, {0, 0, 0}, greedy, {}), 1);  // 1.5, not 0.375
  EXPECT_EQ(sample_token(at::tensor({1.9, 1.0, 0.9}), {0, 0}, greedy, {}), 1);
  EXPECT_EQ(sample_token(at::tensor({-1.0, -1.5, -3.0}), {0}, greedy, {}), 1);  // -2, -1.5
  SamplerOptions drawn;
  drawn.repetition_penalty = 0.5;  // below 1 favours: logits 2·log 2 instead of log 2
  expect_shares(frequencies(at::tensor({0.0, std::log(2.0)}, at::kDouble), drawn, {1}), {0.2, 0.8});
}

TEST(Sampler, ProbabilitiesAreThoseItDrawsFrom) {
  SamplerOptions options;
  options.top_k = 2;
  const auto p = token_probabilities(logits_of({0.1, 0.4, 0.3, 0.2}), {}, options);
  ASSERT_EQ(p.size(), 4u);
  EXPECT_EQ(p[0], 0.0);
  EXPECT_NEAR(p[1], 4.0 / 7, 1e-12);
  EXPECT_NEAR(p[2], 3.0 / 7, 1e-12);
  EXPECT_EQ(p[3], 0.0);
}

TEST(Sampler, OptionsApplyInTheOrderOfTheReference) {
  SamplerOptions options;
  options.temperature = 0.5;
  options.top_k = 3;
  options.top_p = 0.7;
  // Squared: .16 .09 .04 (.01 dropped by k) -> .552 .310 .138: the first two reach 0.7.
  expect_shares(frequencies(logits_of({0.1, 0.4, 0.3, 0.2}), options), {0, 0.64, 0.36, 0});
  SamplerOptions last;
  last.top_k = 2;
  last.min_p = 0.8;  // of 4/7: 3/7 is 0.75 of it
  expect_shares(frequencies(logits_of({0.1, 0.4, 0.3, 0.2}), last), {0, 1, 0, 0});
}

TEST(Sampler, ADrawDependsOnItsKeyOnly) {
  const at::Tensor logits = at::zeros({1000});
  const auto at_key = [&](uint64_t seed, uint64_t request, uint64_t position) {
    return sample_token(logits, {}, {}, {seed, request, position});
  };
  EXPECT_EQ(at_key(1, 2, 3), at_key(1, 2, 3));
  std::set<int64_t> different;
  for (uint64_t i = 0; i < 4; ++i) {
    different.insert(at_key(i, 2, 3));
    different.insert(at_key(1, 10 + i, 3));
    different.insert(at_key(1, 2, 10 + i));
  }
  EXPECT_GE(different.size(), 11u);
  EXPECT_EQ(sample_token(logits.to(at::kDouble), {}, {}, {1, 2, 3}), at_key(1, 2, 3));
}

TEST(Sampler, UniformDrawsAreUniformAndUncorrelated) {
  double sum = 0, square = 0, lagged = 0, previous = 0.5;
  constexpr int kDraws = 100000;
  for (int i = 0; i < kDraws; ++i) {
    const double u = uniform_draw({7, 0, static_cast<uint64_t>(i)});
    ASSERT_GE(u, 0.0);
    ASSERT_LT(u, 1.0);
    sum += u;
    square += u * u;
    lagged += (u - 0.5) * (previous - 0.5);
    previous = u;
  }
  EXPECT_NEAR(sum / kDraws, 0.5, 0.004);
  EXPECT_NEAR(square / kDraws, 1.0 / 3, 0.004);
  EXPECT_NEAR(lagged / kDraws, 0.0, 0.0012);
}

template <class E>
std::string error_of(const at::Tensor& logits, const SamplerOptions& options) {
  try {
    sample_token(logits, {}, options, {});
  } catch (const E& error) {
    return error.what();
  }
  return "no error";
}

TEST(Sampler, NamesWhatIsWrong) {
  using testing::HasSubstr;
  const at::Tensor logits = at::zeros({3});
  SamplerOptions bad;
  bad.temperature = -1;
  EXPECT_THAT(error_of<ConfigError>(logits, bad), HasSubstr("--temperature = -1, allowed 0"));
  bad = {};
  bad.top_p = 0;
  EXPECT_THAT(error_of<ConfigError>(logits, bad), HasSubstr("--top-p = 0, allowed above 0"));
  bad.top_p = 1.5;
  EXPECT_THAT(error_of<ConfigError>(logits, bad), HasSubstr("--top-p = 1.5"));
  bad = {};
  bad.min_p = NAN;
  EXPECT_THAT(error_of<ConfigError>(logits, bad), HasSubstr("--min-p = nan"));
  bad = {};
  bad.top_k = -2;
  EXPECT_THAT(error_of<ConfigError>(logits, bad), HasSubstr("--top-k = -2"));
  bad = {};
  bad.repetition_penalty = 0;
  EXPECT_THAT(error_of<ConfigError>(logits, bad), HasSubstr("--repetition-penalty = 0"));
  EXPECT_THAT(error_of<NonFiniteError>(at::tensor({0.0, NAN}), {}), HasSubstr("logits[1] = nan"));
  EXPECT_THAT(error_of<NonFiniteError>(at::tensor({kInf, 0.0}), {}), HasSubstr("logits[0] = inf"));
  EXPECT_THAT(error_of<NonFiniteError>(at::tensor({-kInf, -kInf}), {}), HasSubstr("all -inf"));
  SamplerOptions greedy;
  greedy.temperature = 0;
  EXPECT_THAT(error_of<NonFiniteError>(at::tensor({-kInf, -kInf}), greedy), HasSubstr("all -inf"));
}

}  // namespace
}  // namespace headway::engine
