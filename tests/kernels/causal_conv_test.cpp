// Every kernel of the causal convolution on every Highway target: against scalar loops, gradients
// against the reference in double, over taps, odd widths, packed sequences and states.
#include "headway/ops/causal_conv.h"

#include <ATen/Functions.h>
#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <gtest/gtest.h>

#include "tests/support/kernel_variants.h"
#include "tests/support/naive_delta.h"
#include "tests/support/numeric_gradient.h"
#include "tests/support/tensors.h"
#include "tests/support/tolerance.h"

namespace headway::ops {
namespace {

using test::close;
using test::KernelVariant;

struct Case {
  std::vector<int64_t> cu;
  int64_t channels, taps;
  bool bias, state, silu;
};

const Case kCases[] = {
    {{0, 1}, 1, 1, false, false, true},          {{0, 1}, 10, 4, false, true, true},
    {{0, 3, 3, 5}, 7, 4, true, true, true},      {{0, 9}, 7, 3, false, true, false},
    {{0, 70, 71, 140}, 33, 4, true, true, true}, {{0, 130, 133}, 300, 2, false, false, true},
    {{0, 65}, 17, 7, true, false, true},
};

CausalConvInputs make_inputs(const Case& c, at::ScalarType type) {
  CausalConvInputs in;
  const auto sequences = static_cast<int64_t>(c.cu.size()) - 1;
  in.x_TC =
      test::normal_tensor({c.cu.back(), c.channels + 5}, type, 1).narrow(1, 2, c.channels).detach();
  in.weight_CW = test::normal_tensor({c.channels, c.taps}, type, 2);
  if (c.bias) in.bias_C = test::normal_tensor({c.channels}, type, 3);
  if (c.state) {
    in.initial_state_NPC = test::normal_tensor({sequences, c.taps - 1, c.channels}, type, 4);
  }
  return in;
}

ConvActivation activation_of(const Case& c) {
  return c.silu ? ConvActivation::kSilu : ConvActivation::kNone;
}

std::vector<at::Tensor> run(const Case& c, CausalConvInputs in) {
  for (at::Tensor* x : {&in.x_TC, &in.weight_CW, &in.bias_C, &in.initial_state_NPC}) {
    if (x->defined()) *x = x->detach().requires_grad_();
  }
  const auto result = causal_conv1d(in, packed_sequences(c.cu), activation_of(c));
  const at::ScalarType type = in.x_TC.scalar_type();
  const auto cotangent = [&](const at::Tensor& like, uint64_t seed) {
    return test::normal_tensor(like.sizes(), at::kBFloat16, seed).to(type);
  };
  (result.out_TC * cotangent(result.out_TC, 5))
      .sum()
      .add((result.final_state_NPC * cotangent(result.final_state_NPC, 6)).sum())
      .backward();
  std::vector<at::Tensor> all{result.out_TC.detach(), result.final_state_NPC.detach()};
  for (const at::Tensor& x : {in.x_TC, in.weight_CW, in.bias_C, in.initial_state_NPC}) {
    all.push_back(x.defined() ? x.grad() : at::Tensor());
  }
  return all;
}

CausalConvInputs converted(CausalConvInputs in, at::ScalarType type) {
  for (at::Tensor* x : {&in.x_TC, &in.weight_CW, &in.bias_C, &in.initial_state_NPC}) {
    if (x->defined()) *x = x->to(type);
  }
  return in;
}

class CausalConvKernel : public testing::TestWithParam<std::tuple<KernelVariant, at::ScalarType>> {
};

TEST_P(CausalConvKernel, AgreesWithScalarLoopsAndTheReference) {
  const auto& [variant, type] = GetParam();
  for (const Case& c : kCases) {
    SCOPED_TRACE(testing::Message() << c.cu.back() << " channels " << c.channels);
    const CausalConvInputs in = make_inputs(c, type);
    std::vector<at::Tensor> want;
    {
      const ScopedKernel forced("causal_conv1d", "reference");
      want = run(c, converted(in, at::kDouble));
    }
    const ScopedKernel forced("causal_conv1d", variant.kernel, variant.target);
    const auto got = run(c, in);
    const double allowed = test::tolerance(type, c.taps);
    EXPECT_TRUE(close(got[0], test::naive_causal_conv(in, c.cu, c.silu), allowed));
    EXPECT_TRUE(close(got[1], want[1], 0.0));
    for (size_t i = 2; i < got.size(); ++i) {
      SCOPED_TRACE(i);
      ASSERT_EQ(got[i].defined(), want[i].defined());
      if (got[i].defined()) {
        EXPECT_TRUE(
            close(got[i], want[i], 2 * test::tolerance(type, i == 3 || i == 4 ? c.cu.back() : 4)));
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Simd, CausalConvKernel,
                         testing::Combine(testing::ValuesIn(test::kernel_variants({"simd"}, {})),
                                          testing::Values(at::kFloat, at::kBFloat16)));
INSTANTIATE_TEST_SUITE_P(Reference, CausalConvKernel,
                         testing::Combine(testing::Values(KernelVariant{"reference", ""}),
                                          testing::Values(at::kFloat, at::kDouble, at::kBFloat16,
                                                          at::kHalf)));

TEST(CausalConv, AnalyticEqualsNumericGradient) {
  for (const Case& c : kCases) {
    const CausalConvInputs in = make_inputs(c, at::kDouble);
    const auto function = [&](const std::vector<at::Tensor>& x) {
      const auto result =
          causal_conv1d({x[0], x[1], x[2], x[3]}, packed_sequences(c.cu), activation_of(c));
      return std::vector<at::Tensor>{result.out_TC, result.final_state_NPC};
    };
    EXPECT_TRUE(test::gradients_agree(
        function, {in.x_TC, in.weight_CW, in.bias_C, in.initial_state_NPC}, 9, 1e-8));
  }
}

TEST(CausalConv, BitsDoNotDependOnThreadsAndPiecesEqualTheWhole) {
  const Case c{{0, 3000}, 65, 4, true, true, true};
  const CausalConvInputs in = make_inputs(c, at::kFloat);
  const int threads = at::get_num_threads();
  std::vector<std::vector<at::Tensor>> results;
  for (const int count : {1, 2, 3}) {
    at::set_num_threads(count);
    results.push_back(run(c, in));
  }
  at::set_num_threads(threads);
  for (size_t i = 0; i < results[0].size(); ++i) {
    EXPECT_TRUE(test::same_bits(results[1][i], results[0][i]));
    EXPECT_TRUE(test::same_bits(results[2][i], results[0][i]));
  }
  CausalConvInputs piece = in;
  at::Tensor state = in.initial_state_NPC;
  int64_t begin = 0;
  for (const int64_t count : {1, 2, 1, 5, 300}) {
    piece.x_TC = in.x_TC.narrow(0, begin, count);
    piece.initial_state_NPC = state;
    const auto result = causal_conv1d(piece, equal_sequences(1, count), ConvActivation::kSilu);
    EXPECT_TRUE(test::same_bits(result.out_TC, results[0][0].narrow(0, begin, count).contiguous()));
    state = result.final_state_NPC;
    begin += count;
  }
}

}  // namespace
}  // namespace headway::ops
