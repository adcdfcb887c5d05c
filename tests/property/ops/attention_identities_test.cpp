// Identities of attention that the feature table of the specification names one by one: grouped
// heads, windows, sinks, precision, rotations. Not for: random draws (attention_test.cpp) or
// agreement of kernels (tests/kernels).
#include <cmath>
#include <limits>
#include <vector>

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>
#include <gtest/gtest.h>

#include "headway/ops/attention.h"
#include "headway/ops/gate.h"
#include "headway/ops/rope.h"

#include "tests/support/tensors.h"
#include "tests/support/tolerance.h"

namespace headway::test {
namespace {

struct Inputs {
  at::Tensor q, k, v, sinks;
  ops::Sequences sequences;
  ops::AttentionOptions options;

  Inputs(int64_t queries, int64_t keys, int64_t heads, int64_t groups, at::ScalarType type) {
    q = normal_tensor({queries, heads, 8}, type, 1);
    k = normal_tensor({keys, groups, 8}, type, 2);
    v = normal_tensor({keys, groups, 8}, type, 3);
    sequences.cu_q = {0, queries};
    sequences.cu_k = {0, keys};
    options.scale = 0.35;
  }
  at::Tensor run() const { return ops::attention(q, k, v, sinks, sequences, options); }
};

double distance(const at::Tensor& a, const at::Tensor& b) {
  return (a.to(at::kDouble) - b.to(at::kDouble)).abs().max().item<double>();
}

TEST(AttentionIdentity, GroupedHeadsAreRepeatedHeads) {
  for (const at::ScalarType type : {at::kDouble, at::kFloat}) {
    for (const int64_t groups : {1, 2, 4}) {
      Inputs grouped(40, 40, 8, groups, type);
      Inputs plain = grouped;
      plain.k = grouped.k.repeat_interleave(8 / groups, 1);
      plain.v = grouped.v.repeat_interleave(8 / groups, 1);
      EXPECT_LT(distance(grouped.run(), plain.run()), 1e-5) << groups;
    }
  }
}

/// Which keys a query sees, found by values that name their key.
std::vector<std::string> visible(const ops::AttentionRule& rule, int64_t queries, int64_t keys,
                                 at::ScalarType type) {
  Inputs in(queries, keys, 1, 1, type);
  in.v = at::eye(keys, type).unsqueeze(1);
  in.options.rule = rule;
  const at::Tensor p = in.run().squeeze(1).to(at::kDouble);
  std::vector<std::string> rows;
  for (int64_t i = 0; i < queries; ++i) {
    std::string row;
    for (int64_t j = 0; j < keys; ++j) row += p[i][j].item<double>() > 0 ? '1' : '0';
    rows.push_back(row);
  }
  return rows;
}

TEST(AttentionIdentity, WindowTable) {
  using Rows = std::vector<std::string>;
  for (const at::ScalarType type : {at::kDouble, at::kFloat}) {
    EXPECT_EQ(visible({2, 0}, 2, 5, type), (Rows{"01110", "00111"}));
    EXPECT_EQ(visible({-1, 0}, 3, 3, type), (Rows{"100", "110", "111"}))
        << "-1 is no bound, not an empty window";
    EXPECT_EQ(visible({-1, 0}, 2, 5, type), (Rows{"11110", "11111"})) << "bottom right";
    EXPECT_EQ(visible({-1, 0}, 3, 2, type), (Rows{"00", "10", "11"}));
    EXPECT_EQ(visible({-1, -1}, 2, 3, type), (Rows{"111", "111"}));
    EXPECT_EQ(visible({1, 1}, 4, 4, type), (Rows{"1100", "1110", "0111", "0011"}));
    EXPECT_EQ(visible({0, -1}, 3, 3, type), (Rows{"111", "011", "001"}));
    EXPECT_EQ(visible({10, 0}, 3, 3, type), (Rows{"100", "110", "111"}));
    EXPECT_EQ(visible({8, 8}, 3, 3, type), (Rows{"111", "111", "111"}));
  }
}

TEST(AttentionIdentity, ASinkIsAnAppendedKeyOfValueZero) {
  for (const double sink : {0.0, 5.0, -5.0}) {
    Inputs in(9, 9, 4, 2, at::kDouble);
    in.options.rule = {-1, -1};
    const at::Tensor plain = in.run();
    in.sinks = at::full({4}, sink, at::kDouble);
    // A key whose score is the sink for every query: one more channel carries it.
    Inputs appended = in;
    appended.sinks = at::Tensor();
    const at::Tensor one = at::ones({9, 4, 1}, at::kDouble);
    appended.q = at::cat({in.q, one}, 2);
    const at::Tensor extra = at::zeros({1, 2, 9}, at::kDouble);
    extra.select(2, 8).fill_(sink / in.options.scale);
    appended.k = at::cat({at::cat({in.k, at::zeros({9, 2, 1}, at::kDouble)}, 2), extra});
    appended.v = at::cat({in.v, at::zeros({1, 2, 8}, at::kDouble)});
    appended.sequences.cu_k = {0, 10};
    EXPECT_LT(distance(in.run(), appended.run()), 1e-12) << sink;
    EXPECT_GT(distance(in.run(), plain), 1e-4) << "a sink is not ignored";
  }
}

TEST(AttentionIdentity, ThreeEqualScoresAndASinkOfZeroAreQuarters) {
  for (const at::ScalarType type : {at::kDouble, at::kFloat, at::kBFloat16}) {
    Inputs in(1, 3, 2, 1, type);
    in.q.zero_();
    in.v = at::eye(3, type).unsqueeze(1);
    in.sinks = at::zeros({2}, type);
    EXPECT_LT(distance(in.run(), at::full({1, 2, 3}, 0.25, at::kDouble)), 1e-6);
  }
}

TEST(AttentionIdentity, ExtremeSinksStayFinite) {
  for (const at::ScalarType type : {at::kDouble, at::kFloat}) {
    Inputs in(20, 20, 2, 1, type);
    const at::Tensor plain = in.run();
    in.sinks = at::full({2}, 1e10, type).requires_grad_();
    EXPECT_EQ(in.run().abs().max().item<double>(), 0.0);
    in.sinks = at::full({2}, -1e10, type).requires_grad_();
    EXPECT_LT(distance(in.run(), plain), 1e-6);
    in.sinks = at::full({2}, -std::numeric_limits<double>::infinity(), type).requires_grad_();
    const at::Tensor out = in.run();
    EXPECT_LT(distance(out, plain), 1e-6);
    out.sum().backward();
    EXPECT_EQ(in.sinks.grad().abs().max().item<double>(), 0.0);
  }
}

TEST(AttentionIdentity, SixteenBitLogitsOfAThousandMatchDouble) {
  Inputs in(64, 64, 2, 1, at::kBFloat16);
  in.q = in.q * 300;
  Inputs exact = in;
  for (at::Tensor* x : {&exact.q, &exact.k, &exact.v}) *x = x->to(at::kDouble);
  const at::Tensor got = in.run();
  EXPECT_FALSE(got.isnan().any().item<bool>());
  EXPECT_LT(distance(got, exact.run()), 1e-2 * in.v.abs().max().item<double>());
}

TEST(AttentionIdentity, OnlyTheGatedHeadChanges) {
  const at::Tensor core = normal_tensor({5, 4, 6}, at::kDouble, 1);
  at::Tensor logits = at::full({5, 4}, 1e4, at::kDouble);
  logits.select(1, 2).copy_(normal_tensor({5}, at::kDouble, 2));
  const at::Tensor gated = ops::sigmoid_gate(core, logits);
  for (int64_t head = 0; head < 4; ++head) {
    const double change = distance(gated.select(1, head), core.select(1, head));
    EXPECT_EQ(change > 0, head == 2) << head;
  }
}

TEST(AttentionIdentity, RotatedScoresDependOnDistanceOnly) {
  constexpr int64_t kPairs = 4, kRows = 200;
  const at::Tensor angles =
      at::outer(at::arange(kRows, at::kDouble), at::pow(10.0, -at::arange(kPairs, at::kDouble)));
  const at::Tensor cos = at::cos(angles), sin = at::sin(angles);
  const at::Tensor q = normal_tensor({1, 1, 8}, at::kDouble, 1);
  const at::Tensor k = normal_tensor({1, 1, 8}, at::kDouble, 2);
  for (const bool interleaved : {false, true}) {
    const auto score = [&](int64_t i, int64_t j) {
      const at::Tensor a = ops::rope(q, cos, sin, at::tensor({i}, at::kLong), interleaved);
      const at::Tensor b = ops::rope(k, cos, sin, at::tensor({j}, at::kLong), interleaved);
      return (a * b).sum().item<double>();
    };
    for (const int64_t shift : {1, 17, 150}) {
      EXPECT_NEAR(score(20, 3), score(20 + shift, 3 + shift), 1e-12);
    }
    EXPECT_GT(std::abs(score(20, 3) - score(21, 3)), 1e-6);
  }
}

}  // namespace
}  // namespace headway::test
