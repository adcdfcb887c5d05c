// The gated delta rule: analytic = numeric gradients, packed = separate, pieces = whole, and the
// decay per channel with equal channels = the decay per head.
#include "headway/ops/delta_rule.h"

#include <cmath>
#include <random>

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>
#include <gtest/gtest.h>

#include "headway/ops/kernel_table.h"

#include "tests/support/numeric_gradient.h"
#include "tests/support/tensors.h"

namespace headway::ops {
namespace {

using test::close;

struct Sizes {
  int64_t groups, heads, keys, values;
};

DeltaRuleInputs make_inputs(int64_t tokens, Sizes s, bool channels, uint64_t seed) {
  DeltaRuleInputs in;
  const auto normal = [&](std::vector<int64_t> sizes) {
    return test::normal_tensor(sizes, at::kDouble, seed++);
  };
  in.q_TGK = normal({tokens, s.groups, s.keys});
  in.k_TGK = normal({tokens, s.groups, s.keys});
  in.v_THV = normal({tokens, s.heads, s.values});
  in.beta_TH = 2 * normal({tokens, s.heads}).sigmoid();
  in.log_decay =
      channels ? -normal({tokens, s.heads, s.keys}).square() : -normal({tokens, s.heads}).square();
  return in;
}

DeltaRuleInputs part(const DeltaRuleInputs& in, int64_t begin, int64_t count) {
  const auto cut = [&](const at::Tensor& x) { return x.narrow(0, begin, count); };
  return {cut(in.q_TGK), cut(in.k_TGK), cut(in.v_THV), cut(in.log_decay), cut(in.beta_TH), {}};
}

const DeltaRuleOptions kOptions{0.4, true, 1e-6};

TEST(DeltaRuleProperty, AnalyticEqualsNumericGradient) {
  for (const char* kernel : {"composed", "reference"}) {
    const ScopedKernel forced("gated_delta_rule", kernel);
    for (const bool channels : {false, true}) {
      for (const bool l2_norm : {false, true}) {
        SCOPED_TRACE(testing::Message() << kernel << channels << l2_norm);
        const Sequences sequences = packed_sequences({0, 67, 70});
        DeltaRuleInputs in = make_inputs(70, {1, 2, 4, 3}, channels, 1);
        if (!l2_norm) in.k_TGK = 0.3 * in.k_TGK;
        const at::Tensor initial = test::normal_tensor({2, 2, 4, 3}, at::kDouble, 20);
        DeltaRuleOptions options = kOptions;
        options.l2_norm = l2_norm;
        const auto function = [&](const std::vector<at::Tensor>& x) {
          const auto result =
              gated_delta_rule({x[0], x[1], x[2], x[3], x[4], x[5]}, sequences, options);
          return std::vector<at::Tensor>{result.out_THV, result.final_state_NHKV};
        };
        EXPECT_TRUE(test::gradients_agree(
            function, {in.q_TGK, in.k_TGK, in.v_THV, in.log_decay, in.beta_TH, initial}, 30, 1e-8));
      }
    }
  }
}

TEST(DeltaRuleProperty, PackedEqualsSeparate) {
  const std::vector<int64_t> cu{0, 66, 66, 67, 131, 140};
  for (const bool channels : {false, true}) {
    const DeltaRuleInputs in = make_inputs(140, {2, 4, 5, 6}, channels, 3);
    const auto packed = gated_delta_rule(in, packed_sequences(cu), kOptions);
    for (size_t n = 0; n + 1 < cu.size(); ++n) {
      const int64_t count = cu[n + 1] - cu[n];
      const auto alone =
          gated_delta_rule(part(in, cu[n], count), equal_sequences(1, count), kOptions);
      if (count > 0) {
        EXPECT_TRUE(close(packed.out_THV.narrow(0, cu[n], count), alone.out_THV, 1e-14));
      }
      EXPECT_TRUE(close(packed.final_state_NHKV[static_cast<int64_t>(n)], alone.final_state_NHKV[0],
                        1e-14));
    }
  }
}

TEST(DeltaRuleProperty, PiecesEqualTheWholeAtAnyBoundary) {
  std::mt19937 random(11);
  for (int trial = 0; trial < 8; ++trial) {
    const bool channels = trial % 2 == 1;
    const int64_t tokens = 1 + static_cast<int64_t>(random() % 200);
    const DeltaRuleInputs in = make_inputs(tokens, {1, 2, 6, 5}, channels, 40 + trial);
    const auto whole = gated_delta_rule(in, equal_sequences(1, tokens), kOptions);
    at::Tensor states = at::zeros({1, 2, 6, 5}, at::kDouble);
    std::vector<at::Tensor> outs;
    for (int64_t begin = 0; begin < tokens;) {
      const int64_t count =
          std::min<int64_t>(tokens - begin, 1 + static_cast<int64_t>(random() % 90));
      outs.push_back(gated_delta_step(part(in, begin, count), states, {0},
                                      equal_sequences(1, count), kOptions));
      begin += count;
    }
    EXPECT_TRUE(close(at::cat(outs), whole.out_THV, 1e-12));
    EXPECT_TRUE(close(states, whole.final_state_NHKV, 1e-12));
  }
}

TEST(DeltaRuleProperty, EqualChannelsAreADecayPerHead) {
  for (const at::ScalarType type : {at::kDouble, at::kFloat}) {
    DeltaRuleInputs in = make_inputs(130, {3, 3, 7, 4}, false, 5);
    for (at::Tensor* x : {&in.q_TGK, &in.k_TGK, &in.v_THV, &in.log_decay, &in.beta_TH}) {
      *x = x->to(type);
    }
    DeltaRuleInputs repeated = in;
    repeated.log_decay = in.log_decay.unsqueeze(-1).expand({130, 3, 7}).contiguous();
    const Sequences sequences = equal_sequences(1, 130);
    const auto head = gated_delta_rule(in, sequences, kOptions);
    const auto channel = gated_delta_rule(repeated, sequences, kOptions);
    EXPECT_TRUE(close(channel.out_THV, head.out_THV, type == at::kDouble ? 1e-13 : 1e-5));
  }
}

TEST(DeltaRuleProperty, ExampleOfTwoTokens) {
  // families.md 2.1: A_log .4, dt_bias .1 give the decays; values by hand.
  const auto row = [](std::vector<double> values, at::IntArrayRef sizes) {
    return at::tensor(values, at::kDouble).reshape(sizes);
  };
  const double rate = std::exp(0.4);
  const auto decay = [&](double a) { return -rate * std::log1p(std::exp(a + 0.1)); };
  const auto sigmoid = [](double x) { return 1 / (1 + std::exp(-x)); };
  DeltaRuleInputs in;
  in.q_TGK = row({1, 2, .5, -1}, {2, 1, 2});
  in.k_TGK = row({2, 0, 1, 1}, {2, 1, 2});
  in.v_THV = row({1, -1, .5, 2}, {2, 1, 2});
  in.log_decay = row({decay(.3), decay(-.7)}, {2, 1});
  in.beta_TH = row({sigmoid(.2), sigmoid(1)}, {2, 1});
  const auto got = gated_delta_rule(in, equal_sequences(1, 2), {1 / std::sqrt(2.0), true, 1e-6});
  EXPECT_TRUE(close(got.out_THV,
                    row({0.173872738, -0.173872738, 0.041884928, -0.450558831}, {2, 1, 2}), 2e-8));
  EXPECT_TRUE(close(got.final_state_NHKV,
                    row({0.440102795, 0.852238078, 0.153825485, 1.138515388}, {1, 1, 2, 2}), 2e-8));
}

}  // namespace
}  // namespace headway::ops
