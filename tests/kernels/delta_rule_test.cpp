// Every kernel of the gated delta rule on every Highway target: reference against scalar loops,
// the others against the reference in double, over decays per head and channel, head ratios, odd
// sizes, lengths around the chunk and packed sequences; the in-place step.
#include "headway/ops/delta_rule.h"

#include <ATen/Functions.h>
#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <gtest/gtest.h>

#include "tests/support/kernel_variants.h"
#include "tests/support/naive_delta.h"
#include "tests/support/tensors.h"
#include "tests/support/tolerance.h"

namespace headway::ops {
namespace {

using test::close;
using test::KernelVariant;

struct Case {
  std::vector<int64_t> lengths;
  int64_t groups, heads, keys, values;
  bool channels, l2_norm, initial;
};

const Case kCases[] = {
    {{1}, 1, 1, 1, 1, false, false, false},
    {{3}, 1, 2, 5, 7, false, true, true},
    {{63}, 2, 4, 8, 6, false, true, false},
    {{64}, 2, 2, 16, 24, true, true, true},
    {{65}, 2, 6, 8, 12, false, true, true},
    {{130}, 1, 3, 33, 20, false, true, false},
    {{130}, 3, 3, 9, 17, true, true, true},
    {{300}, 1, 1, 16, 16, false, true, true},
    {{5, 0, 70, 1, 64}, 2, 4, 12, 10, false, true, true},
    {{66, 2, 3}, 2, 2, 12, 10, true, true, false},
};

struct Problem {
  DeltaRuleInputs inputs;
  Sequences sequences;
  DeltaRuleOptions options;
};

std::vector<int64_t> boundaries(const std::vector<int64_t>& lengths) {
  std::vector<int64_t> cu{0};
  for (const int64_t length : lengths) cu.push_back(cu.back() + length);
  return cu;
}

/// Decays from 0 to about -4 a step, beta up to 1; without the normalisation keys are made short.
Problem make_problem(const Case& c, at::ScalarType type) {
  Problem p;
  p.sequences = packed_sequences(boundaries(c.lengths));
  const int64_t tokens = p.sequences.num_tokens();
  const at::ScalarType wide = type == at::kDouble ? at::kDouble : at::kFloat;
  const double size = c.l2_norm ? 1.0 : 0.7 / std::sqrt(static_cast<double>(c.keys));
  // Rows of a wider tensor, as views of a fused projection are.
  const auto rows = [&](int64_t heads, int64_t width, double factor, uint64_t seed) {
    const at::Tensor fused = test::normal_tensor({tokens, heads * width + 3}, type, seed) * factor;
    return fused.narrow(1, 2, heads * width).view({tokens, heads, width}).detach();
  };
  p.inputs.q_TGK = rows(c.groups, c.keys, size, 1);
  p.inputs.k_TGK = rows(c.groups, c.keys, size, 2);
  p.inputs.v_THV = rows(c.heads, c.values, 1.0, 3);
  std::vector<int64_t> gates{tokens, c.heads};
  p.inputs.beta_TH = test::normal_tensor(gates, wide, 4).sigmoid();
  if (c.channels) gates.push_back(c.keys);
  p.inputs.log_decay = -test::normal_tensor(gates, wide, 5).square() * 0.3;
  if (c.initial) {
    p.inputs.initial_state_NHKV =
        test::normal_tensor({p.sequences.num_sequences(), c.heads, c.keys, c.values}, wide, 6);
  }
  p.options = {1.0 / std::sqrt(static_cast<double>(c.keys)), c.l2_norm, 1e-6};
  return p;
}

std::vector<at::Tensor> leaves(const DeltaRuleInputs& in) {
  std::vector<at::Tensor> all{in.q_TGK, in.k_TGK, in.v_THV, in.log_decay, in.beta_TH};
  if (in.initial_state_NHKV.defined()) all.push_back(in.initial_state_NHKV);
  return all;
}

Problem converted(const Problem& from, at::ScalarType type) {
  Problem p = from;
  for (at::Tensor* x : {&p.inputs.q_TGK, &p.inputs.k_TGK, &p.inputs.v_THV, &p.inputs.log_decay,
                        &p.inputs.beta_TH, &p.inputs.initial_state_NHKV}) {
    if (x->defined()) *x = x->detach().to(type);
  }
  return p;
}

struct Outcome {
  at::Tensor out, final_state;
  std::vector<at::Tensor> gradients;
};

/// Forward and backward for fixed cotangents, with fresh leaves.
Outcome run(const Problem& from) {
  Problem p = from;
  for (at::Tensor* x : {&p.inputs.q_TGK, &p.inputs.k_TGK, &p.inputs.v_THV, &p.inputs.log_decay,
                        &p.inputs.beta_TH, &p.inputs.initial_state_NHKV}) {
    if (x->defined()) *x = x->detach().requires_grad_();
  }
  const auto result = gated_delta_rule(p.inputs, p.sequences, p.options);
  const at::Tensor d_out = test::normal_tensor(result.out_THV.sizes(), at::kDouble, 7);
  const at::Tensor d_state = test::normal_tensor(result.final_state_NHKV.sizes(), at::kDouble, 8);
  (result.out_THV.to(at::kDouble) * d_out.to(result.out_THV.scalar_type()).to(at::kDouble))
      .sum()
      .add((result.final_state_NHKV.to(at::kDouble) * d_state).sum())
      .backward();
  Outcome outcome{result.out_THV.detach(), result.final_state_NHKV.detach(), {}};
  for (const at::Tensor& leaf : leaves(p.inputs)) outcome.gradients.push_back(leaf.grad());
  return outcome;
}

void expect_equal(const Outcome& got, const Outcome& want, double allowed) {
  EXPECT_TRUE(close(got.out, want.out, allowed));
  EXPECT_TRUE(close(got.final_state, want.final_state, allowed));
  static const char* kNames[] = {"q", "k", "v", "log_decay", "beta", "initial_state"};
  for (size_t i = 0; i < got.gradients.size(); ++i) {
    SCOPED_TRACE(kNames[i]);
    EXPECT_TRUE(close(got.gradients[i], want.gradients[i], allowed, 1e-30));
  }
}

class DeltaRuleKernel : public testing::TestWithParam<KernelVariant> {};

TEST(DeltaRule, ReferenceMatchesScalarLoops) {
  const ScopedKernel forced("gated_delta_rule", "reference");
  for (const Case& c : kCases) {
    SCOPED_TRACE(c.lengths.front());
    const Problem p = make_problem(c, at::kDouble);
    const auto want = test::naive_delta_rule(p.inputs, p.sequences.cu_q, p.options);
    const auto got = gated_delta_rule(p.inputs, p.sequences, p.options);
    EXPECT_TRUE(close(got.out_THV, want.out_THV, 1e-13));
    EXPECT_TRUE(close(got.final_state_NHKV, want.final_state_NHKV, 1e-13));
  }
}

TEST(DeltaRule, ChunksEqualTheRecurrenceInDouble) {
  for (const Case& c : kCases) {
    SCOPED_TRACE(testing::Message() << c.lengths.front() << " channels " << c.channels);
    const Problem p = make_problem(c, at::kDouble);
    Outcome want;
    {
      const ScopedKernel forced("gated_delta_rule", "reference");
      want = run(p);
    }
    const ScopedKernel forced("gated_delta_rule", "composed");
    expect_equal(run(p), want, 1e-12);
  }
}

TEST_P(DeltaRuleKernel, AgreesWithTheReferenceInDouble) {
  for (const at::ScalarType type : {at::kFloat, at::kBFloat16}) {
    for (const Case& c : kCases) {
      SCOPED_TRACE(testing::Message() << c.lengths.front() << " keys " << c.keys << " channels "
                                      << c.channels << " " << type);
      const Problem p = make_problem(c, type);
      Outcome want;
      {
        const ScopedKernel forced("gated_delta_rule", "reference");
        want = run(converted(p, at::kDouble));
      }
      const ScopedKernel forced("gated_delta_rule", GetParam().kernel, GetParam().target);
      const Outcome got = run(p);
      EXPECT_EQ(got.out.scalar_type(), type);
      EXPECT_EQ(got.final_state.scalar_type(), at::kFloat);
      EXPECT_EQ(got.gradients[0].scalar_type(), type);
      EXPECT_EQ(got.gradients[3].scalar_type(), at::kFloat);
      // Results are rounded once to 16 bits; sums over a sequence are in float32.
      const double allowed = type == at::kFloat ? test::tolerance(at::kFloat, c.lengths.front())
                                                : 2 * test::unit_roundoff(at::kBFloat16);
      expect_equal(got, want, 4 * allowed);
    }
  }
}

TEST_P(DeltaRuleKernel, StepContinuesStatesInPlace) {
  const ScopedKernel forced("gated_delta_rule", GetParam().kernel, GetParam().target);
  for (const Case& c : {Case{{1, 1, 1}, 2, 4, 12, 10, false, true, true},
                        Case{{1, 5, 9}, 2, 2, 12, 10, true, true, true},
                        Case{{70, 1, 2}, 1, 3, 8, 9, false, false, true}}) {
    SCOPED_TRACE(c.lengths.front());
    const Problem p = make_problem(c, at::kFloat);
    const auto want = gated_delta_rule(p.inputs, p.sequences, p.options);
    DeltaRuleInputs inputs = p.inputs;
    inputs.initial_state_NHKV = at::Tensor();
    // The second sequence has no slot: it starts from zeros.
    at::Tensor states = test::normal_tensor({4, c.heads, c.keys, c.values}, at::kFloat, 9);
    const at::Tensor before = states.clone();
    states[3].copy_(p.inputs.initial_state_NHKV[0]);
    states[1].copy_(p.inputs.initial_state_NHKV[2]);
    const at::Tensor out = gated_delta_step(inputs, states, {3, -1, 1}, p.sequences, p.options);
    const double allowed = test::tolerance(at::kFloat, c.lengths.front());
    EXPECT_TRUE(close(states[3], want.final_state_NHKV[0], allowed));
    EXPECT_TRUE(close(states[1], want.final_state_NHKV[2], allowed));
    EXPECT_TRUE(test::same_bits(states[0], before[0]));
    EXPECT_TRUE(test::same_bits(states[2], before[2]));
    const auto& cu = p.sequences.cu_q;
    EXPECT_TRUE(close(out.narrow(0, 0, cu[1]), want.out_THV.narrow(0, 0, cu[1]), allowed));
    EXPECT_TRUE(close(out.narrow(0, cu[2], cu[3] - cu[2]),
                      want.out_THV.narrow(0, cu[2], cu[3] - cu[2]), allowed));
    const auto fresh = gated_delta_rule(inputs, p.sequences, p.options);
    EXPECT_TRUE(close(out.narrow(0, cu[1], cu[2] - cu[1]),
                      fresh.out_THV.narrow(0, cu[1], cu[2] - cu[1]), allowed));
  }
}

TEST_P(DeltaRuleKernel, RepeatedKeysAndSteepDecaysStayAccurate) {
  // All keys alike, beta up to 2 and decays from 0 to -80: the inverse of L must not be formed by
  // powers, and sums of logarithms must not lose their small differences.
  for (const bool channels : {false, true}) {
    Case c{{130}, 1, 2, 8, 6, channels, true, true};
    Problem p = make_problem(c, at::kFloat);
    p.inputs.k_TGK = p.inputs.k_TGK.narrow(0, 0, 1).expand_as(p.inputs.k_TGK).contiguous();
    p.inputs.beta_TH = 2 * p.inputs.beta_TH;
    const at::Tensor steep = test::normal_tensor(p.inputs.log_decay.sizes(), at::kFloat, 10);
    p.inputs.log_decay = at::where(steep > 1, -80 * steep.sigmoid(), -1e-3 * steep.square());
    Outcome want;
    {
      const ScopedKernel forced("gated_delta_rule", "reference");
      want = run(converted(p, at::kDouble));
    }
    const ScopedKernel forced("gated_delta_rule", GetParam().kernel, GetParam().target);
    expect_equal(run(p), want, 5e-5);
  }
}

INSTANTIATE_TEST_SUITE_P(Every, DeltaRuleKernel,
                         testing::ValuesIn(test::kernel_variants({"small", "cpu"},
                                                                 {"composed", "reference"})));

TEST(DeltaRule, BitsDoNotDependOnThreads) {
  const Problem p = make_problem({{200, 3, 90}, 3, 6, 16, 24, false, true, true}, at::kFloat);
  const int threads = at::get_num_threads();
  std::vector<at::Tensor> results;
  for (const int count : {1, 2, 3}) {
    at::set_num_threads(count);
    const Outcome outcome = run(p);
    std::vector<at::Tensor> all{outcome.out.flatten(), outcome.final_state.flatten()};
    for (const at::Tensor& gradient : outcome.gradients) all.push_back(gradient.flatten());
    results.push_back(at::cat(all));
  }
  at::set_num_threads(threads);
  EXPECT_TRUE(test::same_bits(results[1], results[0]));
  EXPECT_TRUE(test::same_bits(results[2], results[0]));
}

TEST(DeltaRule, HalfAndOnlyOneCotangent) {
  const Case c{{70}, 1, 2, 8, 6, false, true, true};
  const Problem half = make_problem(c, at::kHalf);
  const auto got = gated_delta_rule(half.inputs, half.sequences, half.options);
  EXPECT_EQ(got.out_THV.scalar_type(), at::kHalf);
  const Problem wide = converted(half, at::kDouble);
  EXPECT_TRUE(close(got.out_THV,
                    gated_delta_rule(wide.inputs, wide.sequences, wide.options).out_THV,
                    4 * test::unit_roundoff(at::kHalf)));
  // Only the final state is used: the queries get zeros.
  for (const char* kernel : {"small", "cpu", "composed", "reference"}) {
    const ScopedKernel forced("gated_delta_rule", kernel);
    Problem p = make_problem(c, at::kFloat);
    p.inputs.q_TGK.requires_grad_();
    p.inputs.k_TGK.requires_grad_();
    gated_delta_rule(p.inputs, p.sequences, p.options).final_state_NHKV.sum().backward();
    EXPECT_EQ(p.inputs.q_TGK.grad().abs().max().item<double>(), 0.0);
    EXPECT_GT(p.inputs.k_TGK.grad().abs().max().item<double>(), 0.0);
  }
}

}  // namespace
}  // namespace headway::ops
