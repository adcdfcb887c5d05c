// Every kernel of the sigmoid gate on every Highway target: against scalar loops, over dtypes, odd
// sizes and strided views; the exact identities.
#include "headway/ops/gate.h"

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>

#include "tests/support/kernel_variants.h"
#include "tests/support/naive_rowwise.h"
#include "tests/support/tensors.h"
#include "tests/support/tolerance.h"

namespace headway::ops {
namespace {

using test::close;
using test::KernelVariant;

struct Case {
  int64_t tokens, heads, channels;
};

const Case kCases[] = {{1, 1, 1},  {3, 2, 2},  {2, 5, 3},   {4, 3, 7},   {7, 70, 8},  {2, 130, 24},
                       {3, 4, 63}, {5, 6, 64}, {3, 17, 65}, {2, 3, 130}, {2, 2, 256}, {2, 1, 300}};

class GateKernel : public testing::TestWithParam<std::tuple<KernelVariant, at::ScalarType>> {};

TEST_P(GateKernel, AgreesWithScalarLoops) {
  const auto& [variant, type] = GetParam();
  const ScopedKernel forced("sigmoid_gate", variant.kernel, variant.target);
  for (const Case& c : kCases) {
    for (const bool head_wise : {true, false}) {
      SCOPED_TRACE(testing::Message() << c.heads << " heads, " << c.channels << " channels, "
                                      << (head_wise ? "head-wise" : "element-wise"));
      const int64_t gates = head_wise ? c.heads : c.heads * c.channels;
      const at::Tensor fused = test::normal_tensor({c.tokens, gates + 3}, type, 1) * 3;
      at::Tensor gate = fused.narrow(1, 2, gates);
      if (!head_wise) gate = gate.view({c.tokens, c.heads, c.channels});
      gate = gate.detach().requires_grad_();
      // Heads before tokens, as attention may leave them.
      const at::Tensor x = test::normal_tensor({c.heads, c.tokens, c.channels}, type, 2)
                               .transpose(0, 1)
                               .detach()
                               .requires_grad_();
      const at::Tensor dy = test::normal_tensor(x.sizes(), type, 3);
      const at::Tensor y = sigmoid_gate(x, gate);
      y.backward(dy);
      const std::vector<int64_t> flat{c.tokens * c.heads, c.channels};
      const test::Matrix x_rows = test::to_matrix(x.reshape(flat));
      const test::Matrix gate_rows =
          test::to_matrix(gate.reshape({c.tokens * c.heads, head_wise ? 1 : c.channels}));
      const auto want =
          test::naive_gate_gradients(x_rows, gate_rows, test::to_matrix(dy.reshape(flat)));
      EXPECT_EQ(y.scalar_type(), type);
      EXPECT_TRUE(y.is_contiguous());
      EXPECT_TRUE(close(y, test::from_matrix(test::naive_gate(x_rows, gate_rows)).view(x.sizes()),
                        test::tolerance(type, 1)));
      EXPECT_TRUE(
          close(x.grad(), test::from_matrix(want.dx).view(x.sizes()), test::tolerance(type, 1)));
      EXPECT_TRUE(close(gate.grad(), test::from_matrix(want.d_gate).view(gate.sizes()),
                        test::tolerance(type, head_wise ? c.channels : 1)));
    }
  }
}

TEST_P(GateKernel, IdentitiesAreExact) {
  const auto& [variant, type] = GetParam();
  const ScopedKernel forced("sigmoid_gate", variant.kernel, variant.target);
  const at::Tensor x = test::normal_tensor({9, 5, 37}, type, 1);
  for (const bool head_wise : {true, false}) {
    const auto gated = [&](double logit) {
      const at::IntArrayRef sizes = head_wise ? x.sizes().slice(0, 2) : x.sizes();
      return sigmoid_gate(x, at::full(sizes, logit, x.options()));
    };
    EXPECT_TRUE(test::same_bits(gated(0.0), x * 0.5));
    EXPECT_TRUE(test::same_bits(gated(-0.0), x * 0.5));
    EXPECT_TRUE(test::same_bits(gated(1e4), x));
    EXPECT_TRUE(gated(-1e4).eq(0).all().item<bool>());
    EXPECT_TRUE(gated(std::nan("")).isnan().all().item<bool>());
  }
}

TEST_P(GateKernel, GateOfAnyHeadStride) {
  const auto& [variant, type] = GetParam();
  const ScopedKernel forced("sigmoid_gate", variant.kernel, variant.target);
  const at::Tensor x = test::normal_tensor({6, 9, 16}, type, 1);
  const at::Tensor gate = test::normal_tensor({9, 6}, type, 2).t();
  const double allowed = 2 * test::unit_roundoff(type);
  EXPECT_TRUE(close(sigmoid_gate(x, gate), sigmoid_gate(x, gate.contiguous()), allowed));
  const at::Tensor wide = test::normal_tensor({6, 16, 9}, type, 3).transpose(1, 2);
  EXPECT_TRUE(close(sigmoid_gate(x, wide), sigmoid_gate(x, wide.contiguous()), allowed));
}

INSTANTIATE_TEST_SUITE_P(Simd, GateKernel,
                         testing::Combine(testing::ValuesIn(test::kernel_variants({"simd"}, {})),
                                          testing::Values(at::kFloat, at::kBFloat16)));
INSTANTIATE_TEST_SUITE_P(Reference, GateKernel,
                         testing::Combine(testing::Values(KernelVariant{"reference", ""}),
                                          testing::Values(at::kFloat, at::kDouble, at::kBFloat16,
                                                          at::kHalf)));

TEST(Gate, RecordsNothingWithoutGradients) {
  at::Tensor x = at::ones({2, 3, 4}).requires_grad_();
  EXPECT_TRUE(sigmoid_gate(x, at::ones({2, 3})).requires_grad());
  const at::NoGradGuard off;
  EXPECT_FALSE(sigmoid_gate(x, at::ones({2, 3})).requires_grad());
}

TEST(Gate, LogisticIsAccurateToThreeRoundings) {
  // As σ(g)·1: all magnitudes, both signs.
  const at::Tensor logits = at::cat({at::linspace(-87.0, 87.0, 20001), at::linspace(-2, 2, 20001)});
  const at::Tensor want = logits.to(at::kDouble).sigmoid();
  for (const auto& variant : test::kernel_variants({"simd"}, {})) {
    const ScopedKernel forced("sigmoid_gate", variant.kernel, variant.target);
    const at::Tensor got =
        sigmoid_gate(at::ones({1, 1, logits.numel()}), logits.view({1, 1, -1})).flatten();
    const double worst = ((got.to(at::kDouble) - want) / want).abs().max().item<double>();
    EXPECT_LE(worst, 3 * 0x1p-23) << variant;
  }
}

}  // namespace
}  // namespace headway::ops
