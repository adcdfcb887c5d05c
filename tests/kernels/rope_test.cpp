// Every rope kernel on every Highway target: against scalar loops, over dtypes, odd sizes, strided
// heads and both layouts.
#include "headway/ops/rope.h"

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
  int64_t tokens, heads, channels, pairs;
};

const Case kCases[] = {{1, 1, 2, 1},   {5, 2, 7, 3},    {9, 3, 24, 8},   {4, 2, 32, 8},
                       {3, 1, 63, 31}, {6, 4, 64, 32},  {3, 2, 65, 17},  {2, 2, 130, 65},
                       {2, 3, 128, 5}, {2, 1, 256, 64}, {7, 2, 300, 12}, {3, 2, 8, 0}};
constexpr int64_t kRows = 23;

class RopeKernel : public testing::TestWithParam<std::tuple<KernelVariant, at::ScalarType>> {};

TEST_P(RopeKernel, AgreesWithScalarLoops) {
  const auto& [variant, type] = GetParam();
  const ScopedKernel forced("rope", variant.kernel, variant.target);
  const at::ScalarType table_type = type == at::kDouble ? at::kDouble : at::kFloat;
  for (const Case& c : kCases) {
    for (const bool interleaved : {false, true}) {
      SCOPED_TRACE(testing::Message()
                   << c.channels << " channels, " << c.pairs << " pairs, " << interleaved);
      const at::Tensor fused = test::normal_tensor({c.tokens, c.heads * c.channels + 3}, type, 1);
      const at::Tensor x = fused.narrow(1, 1, c.heads * c.channels)
                               .view({c.tokens, c.heads, c.channels})
                               .detach()
                               .requires_grad_();
      const at::Tensor cos = test::normal_tensor({kRows, c.pairs}, table_type, 2);
      const at::Tensor sin = test::normal_tensor({kRows, c.pairs}, table_type, 3);
      const at::Tensor positions = test::integer_tensor({c.tokens}, 0, kRows, 4);
      const at::Tensor dy = test::normal_tensor(x.sizes(), type, 5);
      const at::Tensor y = rope(x, cos, sin, positions, interleaved);
      y.backward(dy);
      test::NaiveRope naive{test::to_matrix(cos), test::to_matrix(sin),
                            test::to_integers(positions), interleaved, 1.0};
      const std::vector<int64_t> flat{c.tokens * c.heads, c.channels};
      const auto want = test::naive_rope(test::to_matrix(x.reshape(flat)), naive);
      naive.sign = -1.0;
      const auto want_dx = test::naive_rope(test::to_matrix(dy.reshape(flat)), naive);
      EXPECT_EQ(y.scalar_type(), type);
      EXPECT_TRUE(y.is_contiguous());
      EXPECT_TRUE(close(y, test::from_matrix(want).view(x.sizes()), test::tolerance(type, 1)));
      EXPECT_TRUE(
          close(x.grad(), test::from_matrix(want_dx).view(x.sizes()), test::tolerance(type, 1)));
      // What is not rotated is not touched.
      const int64_t rest = c.channels - 2 * c.pairs;
      EXPECT_TRUE(test::same_bits(y.detach().narrow(2, 2 * c.pairs, rest),
                                  x.detach().narrow(2, 2 * c.pairs, rest)));
    }
  }
}

TEST_P(RopeKernel, OneTokenOfMany) {
  const auto& [variant, type] = GetParam();
  const ScopedKernel forced("rope", variant.kernel, variant.target);
  const at::ScalarType table_type = type == at::kDouble ? at::kDouble : at::kFloat;
  const at::Tensor x = test::normal_tensor({40, 3, 64}, type, 1);
  const at::Tensor cos = test::normal_tensor({50, 16}, table_type, 2);
  const at::Tensor sin = test::normal_tensor({50, 16}, table_type, 3);
  const at::Tensor positions = at::arange(9, 49);
  const at::Tensor whole = rope(x, cos, sin, positions, false);
  for (const int64_t t : {0, 17, 39}) {
    EXPECT_TRUE(test::same_bits(rope(x.narrow(0, t, 1), cos, sin, positions.narrow(0, t, 1), false),
                                whole.narrow(0, t, 1)));
  }
  EXPECT_EQ(rope(x.narrow(0, 0, 0), cos, sin, positions.narrow(0, 0, 0), true).size(0), 0);
}

INSTANTIATE_TEST_SUITE_P(Simd, RopeKernel,
                         testing::Combine(testing::ValuesIn(test::kernel_variants({"simd"}, {})),
                                          testing::Values(at::kFloat, at::kBFloat16)));
INSTANTIATE_TEST_SUITE_P(Reference, RopeKernel,
                         testing::Combine(testing::Values(KernelVariant{"reference", ""}),
                                          testing::Values(at::kFloat, at::kDouble, at::kBFloat16,
                                                          at::kHalf)));

TEST(Rope, RecordsNothingWithoutGradients) {
  const at::Tensor table = at::ones({4, 2}), positions = at::arange(3);
  at::Tensor x = at::ones({3, 1, 4}).requires_grad_();
  EXPECT_TRUE(rope(x, table, table, positions, false).requires_grad());
  const at::NoGradGuard off;
  EXPECT_FALSE(rope(x, table, table, positions, false).requires_grad());
}

}  // namespace
}  // namespace headway::ops
