// Choice of keys against loops, and attention over chosen keys against dense attention with all
// others hidden, on every kernel.
#include "headway/ops/sparse_attention.h"

#include <algorithm>
#include <limits>
#include <vector>

#include <ATen/Functions.h>
#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include "headway/base/error.h"
#include "headway/ops/kernel_table.h"
#include "headway/ops/select_keys.h"

#include "tests/support/message_of.h"
#include "tests/support/tensors.h"
#include "tests/support/tolerance.h"

namespace headway::ops {
namespace {

using test::normal_tensor;

IndexInputs index_inputs(int64_t queries, int64_t keys, int64_t heads, int64_t dim) {
  return {normal_tensor({queries, heads, dim}, at::kDouble, 1),
          normal_tensor({keys, dim}, at::kDouble, 2),
          normal_tensor({queries, heads}, at::kDouble, 3)};
}

/// The choice by three loops and a stable sort.
std::vector<int64_t> naive_choice(const IndexInputs& in, int64_t t, int64_t first, int64_t visible,
                                  const IndexOptions& options) {
  std::vector<std::pair<double, int64_t>> scored;
  for (int64_t u = first; u < first + visible; ++u) {
    double score = 0.0;
    for (int64_t n = 0; n < in.q_TND.size(1); ++n) {
      double product = 0.0;
      for (int64_t d = 0; d < in.k_SD.size(1); ++d) {
        product += in.q_TND[t][n][d].item<double>() * in.k_SD[u][d].item<double>();
      }
      if (options.relu) product = std::max(product, 0.0);
      score += in.w_TN[t][n].item<double>() * product;
    }
    scored.emplace_back(-score, -u);
  }
  std::stable_sort(scored.begin(), scored.end());
  std::vector<int64_t> chosen;
  for (int64_t j = 0; j < std::min<int64_t>(options.top_k, visible); ++j) {
    chosen.push_back(-scored[j].second);
  }
  std::sort(chosen.begin(), chosen.end());
  return chosen;
}

void expect_choices(const IndexInputs& in, const Sequences& sequences,
                    const IndexOptions& options) {
  const at::Tensor got = select_keys(in, sequences, options);
  ASSERT_EQ(got.size(1), std::min(options.top_k, sequences.max_k));
  for (int64_t n = 0; n < sequences.num_sequences(); ++n) {
    const int64_t queries = sequences.cu_q[n + 1] - sequences.cu_q[n];
    const int64_t keys = sequences.cu_k[n + 1] - sequences.cu_k[n];
    for (int64_t i = 0; i < queries; ++i) {
      const int64_t t = sequences.cu_q[n] + i;
      const int64_t visible = std::max<int64_t>(keys - queries + i + 1, 0);
      std::vector<int64_t> want = naive_choice(in, t, sequences.cu_k[n], visible, options);
      want.resize(static_cast<size_t>(got.size(1)), -1);
      EXPECT_EQ(test::to_integers(got[t]), want) << "query " << t;
    }
  }
}

TEST(SelectKeys, EqualsLoopsOverPackedSequences) {
  for (const bool relu : {true, false}) {
    const IndexInputs in = index_inputs(14, 14, 3, 4);
    expect_choices(in, packed_sequences({0, 1, 6, 6, 14}), {3, relu});
    expect_choices(in, packed_sequences({0, 14}), {20, relu});
  }
}

TEST(SelectKeys, NewQueriesSeeWhatCameBefore) {
  const IndexInputs in = index_inputs(5, 16, 2, 4);
  expect_choices(in, continued_sequences({7, 4}, {2, 3}), {4, true});
}

TEST(SelectKeys, EqualScoresAreChosenAsTopkDoes) {
  for (const int64_t count : {1, 5, 40}) {
    IndexInputs in = index_inputs(70, 70, 2, 4);
    in.w_TN = in.w_TN.abs() * (in.w_TN > 0.5);  // most scores are exactly 0
    const at::Tensor got = select_keys(in, equal_sequences(1, 70), {count, true});
    const at::Tensor seen = at::ones({70, 70}, at::kBool).tril();
    const at::Tensor scores =
        at::where(seen, index_scores(in, {count, true}), -std::numeric_limits<double>::infinity());
    const at::Tensor want = std::get<1>(scores.topk(count));
    for (int64_t t = count; t < 70; ++t) {
      EXPECT_TRUE(at::equal(got[t], std::get<0>(want[t].sort()))) << count << " of row " << t;
    }
    EXPECT_EQ(test::to_integers(got[0])[0], 0);
  }
  IndexInputs in = index_inputs(70, 70, 2, 4);
  in.w_TN = at::ones_like(in.w_TN);
  in.k_SD[0].fill_(std::numeric_limits<double>::quiet_NaN());
  EXPECT_EQ(test::to_integers(select_keys(in, equal_sequences(1, 70), {69, true})[69])[0], 1);
}

TEST(SelectKeys, Errors) {
  const IndexInputs in = index_inputs(4, 4, 2, 4);
  EXPECT_THAT(testing_support::message_of<ConfigError>([&] {
                select_keys(in, equal_sequences(1, 4), {0, true});
              }),
              testing::HasSubstr("top_k = 0, allowed 1 or more"));
  IndexInputs bad = in;
  bad.k_SD = normal_tensor({4, 3}, at::kDouble, 2);
  EXPECT_THAT(testing_support::message_of<ShapeError>([&] {
                select_keys(bad, equal_sequences(1, 4), {1, true});
              }),
              testing::HasSubstr("[select_keys] index k"));
}

struct Problem {
  at::Tensor q, kv, chosen, d_out;
  int64_t values = 0;

  Problem(int64_t tokens, int64_t keys, int64_t width, at::ScalarType type)
      : q(normal_tensor({tokens, 3, 10}, type, 4)),
        kv(normal_tensor({keys, 10}, type, 5)),
        chosen(at::full({tokens, width}, -1, at::kLong)),
        d_out(normal_tensor({tokens, 3, 6}, type, 6)),
        values(6) {
    // Every query but each fifth takes some keys, at places all over the row.
    for (int64_t t = 0; t < tokens; ++t) {
      if (t % 5 == 4) continue;
      for (int64_t j = 0; j < width; ++j) {
        if ((t + j) % 3 != 0) chosen[t][j] = (7 * t + 11 * j) % keys;
      }
    }
  }

  at::Tensor dense() const {
    const at::Tensor z = at::einsum("thk,sk->ths", {q, kv}) * 0.4;
    // A key counts as often as it was chosen.
    const at::Tensor counts =
        at::zeros({chosen.size(0), kv.size(0)}, q.options())
            .scatter_add(1, chosen.clamp_min(0), chosen.ge(0).to(q.scalar_type()))
            .unsqueeze(1);
    const at::Tensor e = at::exp(z - z.amax(-1, true)) * counts;
    const at::Tensor p = e / e.sum(-1, true).clamp_min(1e-30);
    return at::matmul(p, kv.narrow(1, 0, values));
  }
};

struct Results {
  at::Tensor out, d_q, d_kv;
};

template <class Run>
Results differentiate(Problem& problem, const Run& run) {
  problem.q = problem.q.detach().set_requires_grad(true);
  problem.kv = problem.kv.detach().set_requires_grad(true);
  const at::Tensor out = run();
  const auto grads = torch::autograd::grad({out}, {problem.q, problem.kv}, {problem.d_out});
  return {out.detach(), grads[0], grads[1]};
}

Results sparse(Problem& problem, const char* kernel) {
  const ScopedKernel forced("sparse_attention", kernel);
  return differentiate(problem, [&] {
    return sparse_attention(problem.q, problem.kv, problem.chosen, problem.values, 0.4);
  });
}

TEST(SparseAttention, IsDenseAttentionWithAllOthersHidden) {
  for (const int64_t tokens : {1, 9, 75}) {
    Problem problem(tokens, 21, 8, at::kDouble);
    const Results want = differentiate(problem, [&] { return problem.dense(); });
    const Results got = sparse(problem, "reference");
    EXPECT_TRUE(test::close(got.out, want.out, 1e-12));
    EXPECT_TRUE(test::close(got.d_q, want.d_q, 1e-12));
    EXPECT_TRUE(test::close(got.d_kv, want.d_kv, 1e-12));
    if (tokens > 4) {
      EXPECT_EQ(got.out[4].abs().max().item<double>(), 0.0);
      EXPECT_EQ(got.d_q[4].abs().max().item<double>(), 0.0);
    }
  }
}

TEST(SparseAttention, KernelsAgree) {
  for (const int64_t tokens : {1, 9, 75, 200}) {
    for (const int64_t width : {1, 8, 33}) {
      Problem problem(tokens, 40, width, at::kFloat);
      const Results want = sparse(problem, "reference");
      const Results got = sparse(problem, "cpu");
      const double near = test::tolerance(at::kFloat, 10 * width);
      EXPECT_TRUE(test::close(got.out, want.out, near));
      // Of a single key the gradient is rounding alone.
      EXPECT_TRUE(test::close(got.d_q, want.d_q, near, 1e-5));
      EXPECT_TRUE(test::close(got.d_kv, want.d_kv, test::tolerance(at::kFloat, 10 * tokens)));
    }
  }
}

TEST(SparseAttention, BitsDoNotDependOnThreads) {
  Problem problem(200, 40, 33, at::kFloat);
  const int before = at::get_num_threads();
  const Results many = sparse(problem, "cpu");
  at::set_num_threads(1);
  const Results one = sparse(problem, "cpu");
  at::set_num_threads(before);
  EXPECT_TRUE(test::same_bits(one.out, many.out));
  EXPECT_TRUE(test::same_bits(one.d_kv, many.d_kv));
}

TEST(SparseAttention, SixteenBitsAreComputedInFloat32) {
  Problem problem(9, 21, 8, at::kBFloat16);
  const at::Tensor got =
      sparse_attention(problem.q, problem.kv, problem.chosen, problem.values, 0.4);
  const at::Tensor want = sparse_attention(problem.q.to(at::kFloat), problem.kv.to(at::kFloat),
                                           problem.chosen, problem.values, 0.4);
  EXPECT_TRUE(test::same_bits(got, want.to(at::kBFloat16)));
}

TEST(SparseAttention, Errors) {
  Problem problem(4, 6, 2, at::kDouble);
  const auto error = [&](const at::Tensor& chosen, int64_t values) {
    return testing_support::message_of<ShapeError>(
        [&] { sparse_attention(problem.q, problem.kv, chosen, values, 1.0); });
  };
  EXPECT_THAT(error(at::full({4, 2}, 6, at::kLong), 6), testing::HasSubstr("chosen = 6"));
  EXPECT_THAT(error(at::full({4, 2}, -2, at::kLong), 6), testing::HasSubstr("chosen = -2"));
  EXPECT_THAT(error(at::zeros({3, 2}, at::kLong), 6), testing::HasSubstr("int64 [4,J]"));
  EXPECT_THAT(error(problem.chosen, 11), testing::HasSubstr("value_dim = 11"));
}

}  // namespace
}  // namespace headway::ops
