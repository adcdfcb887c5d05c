// The indexer's loss against its definition, its gradient against finite differences, and what
// rounds an indexer's queries and keys.
#include "headway/ops/index_loss.h"

#include <cmath>

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include "headway/base/error.h"
#include "headway/ops/index_rounding.h"

#include "tests/support/message_of.h"
#include "tests/support/tensors.h"

namespace headway::ops {
namespace {

using test::normal_tensor;

struct Problem {
  Sequences sequences = packed_sequences({0, 4, 11});
  IndexInputs index{normal_tensor({11, 3, 4}, at::kDouble, 1),
                    normal_tensor({11, 4}, at::kDouble, 2), normal_tensor({11, 3}, at::kDouble, 3)};
  IndexTarget target{normal_tensor({11, 2, 5}, at::kDouble, 4),
                     normal_tensor({11, 5}, at::kDouble, 5), 0.7};
  at::Tensor chosen = select_keys(index, sequences, {3, true});

  at::Tensor loss(bool dense, bool relu) const {
    return index_loss(index, target, dense ? at::Tensor() : chosen, sequences, relu);
  }
};

/// Σ_t KL_t by loops over queries, from the definition.
double naive_loss(const Problem& p, bool dense, bool relu) {
  double total = 0.0;
  for (int64_t t = 0; t < 11; ++t) {
    const int64_t first = t < 4 ? 0 : 4;
    std::vector<int64_t> keys;
    for (int64_t u = first; u <= t; ++u) {
      bool in = dense;
      for (int64_t j = 0; j < p.chosen.size(1); ++j) {
        in = in || p.chosen[t][j].item<int64_t>() == u;
      }
      if (in) keys.push_back(u);
    }
    const at::Tensor rows = at::tensor(keys, at::kLong);
    const at::Tensor z =
        at::matmul(p.target.q_THK[t], p.target.kv_SK.index_select(0, rows).t()) * p.target.scale;
    at::Tensor pt = at::softmax(z, -1).sum(0);
    pt = pt / pt.sum();
    at::Tensor s = at::matmul(p.index.q_TND[t], p.index.k_SD.index_select(0, rows).t());
    if (relu) s = s.relu();
    const at::Tensor scores = at::matmul(p.index.w_TN[t], s);
    total += (pt * (pt.log() - at::log_softmax(scores, -1))).sum().item<double>();
  }
  return total;
}

class IndexLoss : public testing::TestWithParam<std::tuple<bool, bool>> {};

TEST_P(IndexLoss, IsItsDefinition) {
  const auto [dense, relu] = GetParam();
  const Problem problem;
  EXPECT_NEAR(problem.loss(dense, relu).item<double>(), naive_loss(problem, dense, relu), 1e-12);
}

TEST_P(IndexLoss, GradientIsThatOfFiniteDifferences) {
  const auto [dense, relu] = GetParam();
  Problem problem;
  std::vector<at::Tensor> leaves = {problem.index.q_TND, problem.index.k_SD, problem.index.w_TN};
  for (at::Tensor& leaf : leaves) leaf.set_requires_grad(true);
  const auto grads = torch::autograd::grad({problem.loss(dense, relu) * 3.0}, leaves);
  constexpr double kStep = 1e-6;
  for (size_t i = 0; i < leaves.size(); ++i) {
    at::Tensor flat = leaves[i].detach().view({-1});
    for (int64_t e = 0; e < flat.numel(); e += 5) {
      const double kept = flat[e].item<double>();
      flat[e] = kept + kStep;
      const double high = problem.loss(dense, relu).item<double>();
      flat[e] = kept - kStep;
      const double low = problem.loss(dense, relu).item<double>();
      flat[e] = kept;
      EXPECT_NEAR(grads[i].view({-1})[e].item<double>(), 3.0 * (high - low) / (2 * kStep), 1e-7);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Kinds, IndexLoss, testing::Combine(testing::Bool(), testing::Bool()));

TEST(IndexLossTarget, GetsNoGradient) {
  Problem problem;
  problem.index.q_TND.set_requires_grad(true);
  problem.target.q_THK.set_requires_grad(true);
  problem.target.kv_SK.set_requires_grad(true);
  problem.loss(true, true).backward();
  EXPECT_FALSE(problem.target.q_THK.grad().defined());
  EXPECT_FALSE(problem.target.kv_SK.grad().defined());
  EXPECT_GT(problem.index.q_TND.grad().abs().max().item<double>(), 0.0);
}

TEST(IndexLossTarget, IsZeroForAPerfectIndexer) {
  Problem problem;
  // One head whose scores are the target's own logits.
  problem.target.q_THK = problem.target.q_THK.narrow(1, 0, 1).contiguous();
  problem.index = {problem.target.q_THK, problem.target.kv_SK,
                   at::full({11, 1}, problem.target.scale, at::kDouble)};
  EXPECT_NEAR(problem.loss(true, false).item<double>(), 0.0, 1e-12);
}

TEST(Hadamard, IsOrthogonalAndItsOwnInverse) {
  for (const int64_t channels : {1, 64, 128}) {
    const at::Tensor x = normal_tensor({5, channels}, at::kDouble, 7);
    const at::Tensor y = hadamard(x);
    EXPECT_TRUE(test::close(hadamard(y), x, 1e-13));
    EXPECT_TRUE(test::close(at::matmul(y, y.t()), at::matmul(x, x.t()), 1e-13));
  }
  const at::Tensor two = hadamard(at::tensor({1.0, 2.0}, at::kDouble));
  EXPECT_NEAR(two[0].item<double>(), 3 / std::sqrt(2.0), 1e-15);
  EXPECT_NEAR(two[1].item<double>(), -1 / std::sqrt(2.0), 1e-15);
  at::Tensor leaf = normal_tensor({3, 8}, at::kDouble, 8).set_requires_grad(true);
  const at::Tensor weight = normal_tensor({3, 8}, at::kDouble, 9);
  (hadamard(leaf) * weight).sum().backward();
  EXPECT_TRUE(test::close(leaf.grad(), hadamard(weight), 1e-13));
  EXPECT_THAT(testing_support::message_of<ShapeError>([] {
                hadamard(at::zeros({2, 12}));
              }),
              testing::HasSubstr("a power of two"));
}

TEST(Fp8Blocks, ScalesArePowersOfTwoAndErrorsBounded) {
  const at::Tensor x = normal_tensor({4, 200}, at::kFloat, 10) * 3.0;
  const at::Tensor y = round_to_fp8_blocks(x);
  const at::Tensor error = (y - x).abs();
  // Three bits of mantissa: half a unit is 2^-4 of a normal number; below, a step of the scale.
  EXPECT_TRUE((error <= x.abs() * 0.0625 + 1e-4).all().item<bool>());
  EXPECT_GT(error.max().item<float>(), 0.0F);
  EXPECT_TRUE(test::same_bits(round_to_fp8_blocks(y), y));
  EXPECT_TRUE(test::same_bits(round_to_fp8_blocks(at::zeros({2, 8})), at::zeros({2, 8})));
  // max 448 · 2^k: the block's scale is 2^k, and its numbers are those of e4m3.
  const at::Tensor exact = at::tensor({448.0F, 1.0F, 0.875F, -0.0625F}) * 4.0F;
  EXPECT_TRUE(test::same_bits(round_to_fp8_blocks(exact), exact));
  at::Tensor leaf = x.clone().set_requires_grad(true);
  round_to_fp8_blocks(leaf).sum().backward();
  EXPECT_TRUE(test::same_bits(leaf.grad(), at::ones_like(x)));
}

}  // namespace
}  // namespace headway::ops
