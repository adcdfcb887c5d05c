// Errors of the operators of linear attention: class, argument, got and allowed.
// Not for: values (tests/kernels).
#include <cmath>

#include <ATen/Functions.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "headway/base/error.h"
#include "headway/ops/causal_conv.h"
#include "headway/ops/delta_rule.h"
#include "headway/ops/gated_norm.h"
#include "headway/ops/kernel_table.h"

#include "tests/support/temp_folder.h"

namespace headway::ops {
namespace {

using testing::HasSubstr;
using testing_support::message_of;

DeltaRuleInputs inputs() {
  return {at::ones({5, 2, 3}), at::ones({5, 2, 3}), at::ones({5, 4, 6}),
          at::zeros({5, 4}),   at::ones({5, 4}),    {}};
}

std::string rule_error(const DeltaRuleInputs& in, const Sequences& sequences) {
  return message_of<ShapeError>([&] { gated_delta_rule(in, sequences, {}); });
}

TEST(DeltaRuleErrors, NameTheArgument) {
  const Sequences five = equal_sequences(1, 5);
  const auto with = [&](auto change) {
    DeltaRuleInputs in = inputs();
    change(in);
    return rule_error(in, five);
  };
  EXPECT_THAT(with([](auto& in) { in.q_TGK = at::Tensor(); }), HasSubstr("q = undefined"));
  EXPECT_THAT(with([](auto& in) {
                in.k_TGK = at::ones({5, 2, 4});
              }),
              HasSubstr("k = [5, 2, 4], allowed [5, 2, 3], the shape of q"));
  EXPECT_THAT(
      with([](auto& in) {
        in.v_THV = at::ones({5, 3, 6});
      }),
      HasSubstr("v = [5, 3, 6], allowed a number of heads that is a multiple of the 2 of q"));
  EXPECT_THAT(with([](auto& in) { in.v_THV = at::ones({4, 4, 6}); }), HasSubstr("the tokens of q"));
  EXPECT_THAT(with([](auto& in) {
                in.beta_TH = at::ones({5, 2});
              }),
              HasSubstr("beta = [5, 2], allowed [5, 4]"));
  EXPECT_THAT(with([](auto& in) {
                in.log_decay = at::ones({5, 4, 2});
              }),
              HasSubstr("log_decay = [5, 4, 2], allowed [5, 4] (a decay per head) or [5, 4, 3]"));
  EXPECT_THAT(with([](auto& in) { in.v_THV = in.v_THV.to(at::kDouble); }),
              HasSubstr("v = Double, allowed Float"));
  EXPECT_THAT(with([](auto& in) {
                in.q_TGK = at::ones({5, 3, 2}).transpose(1, 2);
              }),
              HasSubstr("contiguous last dimension"));
  EXPECT_THAT(with([](auto& in) {
                in.initial_state_NHKV = at::ones({2, 4, 3, 6});
              }),
              HasSubstr("initial_state = [2, 4, 3, 6], allowed [1, 4, 3, 6]"));
  EXPECT_THAT(with([](auto& in) {
                in.initial_state_NHKV = at::ones({1, 4, 3, 6}, at::kDouble);
              }),
              HasSubstr("initial_state = Double"));
  EXPECT_THAT(rule_error(inputs(), equal_sequences(1, 6)), HasSubstr("[gated_delta_rule]"));
  EXPECT_THAT(message_of<ConfigError>([&] {
                gated_delta_rule(inputs(), five, {std::nan(""), false, 1e-6});
              }),
              HasSubstr("options.scale"));
}

TEST(DeltaRuleErrors, SlotsAndForcedKernels) {
  const Sequences five = equal_sequences(1, 5);
  const at::Tensor states = at::zeros({2, 4, 3, 6});
  const auto with = [&](const std::vector<int64_t>& slots, const Sequences& sequences) {
    return message_of<ShapeError>(
        [&] { gated_delta_step(inputs(), states, slots, sequences, {}); });
  };
  EXPECT_THAT(with({0, 1}, five), HasSubstr("slots = 2, allowed 1, one per sequence"));
  EXPECT_THAT(with({2}, five), HasSubstr("slots = 2, allowed -1 to 1"));
  EXPECT_THAT(with({1, 1}, packed_sequences({0, 2, 5})), HasSubstr("every slot once"));
  const ScopedKernel forced("gated_delta_rule", "cpu");
  DeltaRuleInputs wide = inputs();
  for (at::Tensor* x : {&wide.q_TGK, &wide.k_TGK, &wide.v_THV, &wide.log_decay, &wide.beta_TH}) {
    *x = x->to(at::kDouble);
  }
  EXPECT_THAT(message_of<UnsupportedError>([&] { gated_delta_rule(wide, five, {}); }),
              HasSubstr("forced kernel 'cpu' cannot run"));
}

TEST(CausalConvErrors, NameTheArgument) {
  const Sequences five = equal_sequences(1, 5);
  const auto with = [&](const CausalConvInputs& in) {
    return message_of<ShapeError>([&] { causal_conv1d(in, five, ConvActivation::kSilu); });
  };
  const at::Tensor x = at::ones({5, 3}), weight = at::ones({3, 4});
  EXPECT_THAT(with({x, at::ones({2, 4}), {}, {}}), HasSubstr("weight = [2, 4], allowed [3, 4]"));
  EXPECT_THAT(with({x, at::ones({3, 0}), {}, {}}), HasSubstr("at least one tap"));
  EXPECT_THAT(with({x, weight, at::ones({4}), {}}), HasSubstr("bias = [4], allowed [3]"));
  EXPECT_THAT(with({x, weight, {}, at::ones({1, 4, 3})}),
              HasSubstr("initial_state = [1, 4, 3], allowed [1, 3, 3]"));
  EXPECT_THAT(with({x.to(at::kLong), weight, {}, {}}), HasSubstr("x = Long"));
}

TEST(GatedNormErrors, NameTheArgument) {
  const at::Tensor x = at::ones({5, 3});
  const auto with = [&](const at::Tensor& z, const at::Tensor& weight) {
    return message_of<ShapeError>([&] { gated_rms_norm(x, z, weight, {}); });
  };
  EXPECT_THAT(with(at::ones({5, 2}), at::ones({3})), HasSubstr("z = [5, 2], allowed [5, 3]"));
  EXPECT_THAT(with(x, at::ones({2})), HasSubstr("weight = [2], allowed [3]"));
  EXPECT_THAT(with(x, {}), HasSubstr("weight = undefined"));
}

}  // namespace
}  // namespace headway::ops
