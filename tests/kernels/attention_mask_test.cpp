// Masks and biases given as tensors, and the stream that dropout draws from.
// Not for: rules and the grid of kernels (attention_test.cpp).
#include <cmath>
#include <string>
#include <vector>

#include <ATen/Functions.h>
#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "headway/base/error.h"
#include "headway/ops/attention.h"
#include "headway/ops/internal/dropout.h"
#include "headway/ops/kernel_table.h"

#include "tests/support/naive_attention.h"
#include "tests/support/tensors.h"
#include "tests/support/tolerance.h"

namespace headway::test {
namespace {

/// Two sequences of unequal lengths, more keys than queries, two heads a kv head, sinks.
struct Inputs {
  ops::Sequences sequences;
  at::Tensor q, k, v, sinks, d_out;
  ops::AttentionOptions options;

  explicit Inputs(at::ScalarType type) {
    sequences.cu_q = {0, 7, 12};
    sequences.cu_k = {0, 9, 18};
    q = normal_tensor({12, 4, 6}, type, 1);
    k = normal_tensor({18, 2, 6}, type, 2);
    v = normal_tensor({18, 2, 5}, type, 3);
    sinks = normal_tensor({4}, type, 4);
    d_out = normal_tensor({12, 4, 5}, type, 5);
    options.scale = 0.4;
    options.rule = {-1, -1};
  }
  at::Tensor run() const { return ops::attention(q, k, v, sinks, sequences, options); }
};

at::Tensor random_mask(at::IntArrayRef shape, uint64_t seed) {
  return normal_tensor(shape, at::kDouble, seed) > 0.3;
}

/// Sizes of the mask and of the bias; {} = none.
struct Shapes {
  std::string name;
  std::vector<int64_t> mask, bias;
  ops::AttentionRule rule{-1, -1};
  double softcap = 0;
};

void PrintTo(const Shapes& s, std::ostream* out) { *out << s.name; }

class PairTensors : public testing::TestWithParam<Shapes> {};

TEST_P(PairTensors, ReferenceMatchesScalarLoops) {
  const Shapes& shapes = GetParam();
  Inputs in(at::kDouble);
  in.options.rule = shapes.rule;
  in.options.softcap = shapes.softcap;
  if (!shapes.mask.empty()) in.options.mask = random_mask(shapes.mask, 6);
  if (!shapes.bias.empty()) {
    in.options.bias = normal_tensor(shapes.bias, at::kDouble, 7).requires_grad_();
  }
  for (at::Tensor* x : {&in.q, &in.k, &in.v, &in.sinks}) *x = x->detach().requires_grad_();
  const at::Tensor out = in.run();
  out.backward(in.d_out);
  const auto want = naive_attention(in.q, in.k, in.v, in.sinks, in.d_out, in.sequences, in.options);
  const double bound = tolerance(at::kDouble, 30);
  EXPECT_TRUE(close(out, want.out, bound, bound));
  EXPECT_TRUE(close(in.q.grad(), want.dq, bound, bound));
  EXPECT_TRUE(close(in.k.grad(), want.dk, bound, bound));
  EXPECT_TRUE(close(in.v.grad(), want.dv, bound, bound));
  EXPECT_TRUE(close(in.sinks.grad(), want.d_sinks, bound, bound));
  if (in.options.bias.defined()) {
    const at::Tensor d_bias = want.d_bias.sum_to_size(in.options.bias.sizes());
    EXPECT_TRUE(close(in.options.bias.grad(), d_bias, bound, bound));
    EXPECT_GT(d_bias.abs().max().item<double>(), 1e-3);
  }
}

INSTANTIATE_TEST_SUITE_P(
    Grid, PairTensors,
    testing::Values(Shapes{"padding", {2, 1, 1, 9}, {}}, Shapes{"arbitrary", {2, 1, 7, 9}, {}},
                    Shapes{"one_for_all", {1, 1, 7, 9}, {}}, Shapes{"per_head", {2, 4, 7, 9}, {}},
                    Shapes{"queries", {1, 1, 7, 1}, {}}, Shapes{"bias", {}, {1, 4, 7, 9}},
                    Shapes{"bias_of_sequences", {}, {2, 1, 1, 9}},
                    Shapes{"bias_number", {}, {1, 1, 1, 1}}, Shapes{"bias_rows", {}, {1, 4, 7, 1}},
                    Shapes{"mask_and_causal", {2, 1, 1, 9}, {}, {-1, 0}},
                    Shapes{"mask_and_window", {2, 1, 7, 9}, {}, {3, 1}},
                    Shapes{"all", {1, 4, 1, 9}, {2, 4, 7, 9}, {4, 2}, 2.0}),
    [](const auto& info) { return info.param.name; });

TEST(PairTensor, AMaskIsIntersectedWithTheRule) {
  Inputs in(at::kDouble);
  in.options.rule = {2, 0};
  const at::Tensor ruled = in.run();
  // A mask that hides nothing changes nothing; one that says what the rule says neither.
  in.options.mask = at::zeros({1, 1, 7, 9}, at::kBool);
  EXPECT_TRUE(same_bits(in.run(), ruled));
  const auto index = [](int64_t n) { return at::arange(n, at::kLong); };
  at::Tensor hidden = at::ones({2, 1, 7, 9}, at::kBool);
  for (int64_t n = 0; n < 2; ++n) {
    const int64_t sq = in.sequences.cu_q[n + 1] - in.sequences.cu_q[n];
    const at::Tensor i = index(7).unsqueeze(1) + 9 - sq, j = index(9);
    hidden[n][0] = j.lt(i - 2).logical_or(j.gt(i));
  }
  in.options.mask = hidden;
  in.options.rule = {-1, -1};
  EXPECT_TRUE(same_bits(in.run(), ruled));
}

TEST(PairTensor, AFullyMaskedRowIsZeroWithZeroGradients) {
  for (const at::ScalarType type : {at::kDouble, at::kFloat, at::kBFloat16}) {
    Inputs in(type);
    in.options.mask = at::zeros({1, 1, 7, 9}, at::kBool);
    in.options.mask[0][0][3].fill_(true);
    in.options.bias = normal_tensor({1, 4, 7, 9}, type, 8).requires_grad_();
    for (const bool sinks : {true, false}) {
      if (!sinks) in.sinks = at::Tensor();
      in.q = in.q.detach().requires_grad_();
      const at::Tensor out = in.run();
      out.backward(in.d_out);
      EXPECT_EQ(out[3].abs().max().item<double>(), 0.0);
      EXPECT_EQ(in.q.grad()[3].abs().max().item<double>(), 0.0);
      EXPECT_EQ(in.options.bias.grad().select(2, 3).abs().max().item<double>(), 0.0)
          << "row 3 is hidden in both sequences";
      EXPECT_FALSE(out.isnan().any().item<bool>());
      EXPECT_FALSE(in.q.grad().isnan().any().item<bool>());
      in.options.bias.mutable_grad().reset();
    }
  }
}

TEST(PairTensor, EqualScoresShareEqually) {
  Inputs in(at::kDouble);
  in.sequences = ops::equal_sequences(1, 32);
  in.q = in.k = at::zeros({32, 1, 4}, at::kDouble);
  in.v = at::eye(32, at::kDouble).unsqueeze(1);
  in.sinks = at::Tensor();
  in.options.rule = {-1, 0};
  const at::Tensor p = in.run().squeeze(1);
  for (int64_t i = 0; i < 32; ++i) {
    for (int64_t j = 0; j < 32; ++j) {
      const double want = j <= i ? 1.0 / static_cast<double>(i + 1) : 0.0;
      EXPECT_NEAR(p[i][j].item<double>(), want, 1e-15);
    }
  }
}

TEST(PairTensor, FastKernelsRefuseThemAndTheReferenceRuns) {
  using testing::HasSubstr;
  Inputs in(at::kFloat);
  const at::Tensor plain = in.run();
  const auto refusal = [&]() -> std::string {
    const ops::ScopedKernel force("attention", "cpu");
    try {
      in.run();
    } catch (const UnsupportedError& error) {
      return error.what();
    }
    return "nothing thrown";
  };
  in.options.mask = at::zeros({1, 1, 1, 1}, at::kBool);
  EXPECT_THAT(refusal(), HasSubstr("masks given as tensors are computed by the reference only"));
  EXPECT_TRUE(close(in.run(), plain, 1e-5));
  in.options.mask = at::Tensor();
  in.options.bias = at::zeros({1, 1, 1, 1});
  EXPECT_THAT(refusal(), HasSubstr("a bias is computed by the reference only"));
  EXPECT_TRUE(close(in.run(), plain, 1e-5));
}

// The stream is part of what a run is: these numbers may not change.
TEST(Dropout, TheStreamIsFixed) {
  using namespace ops::internal;
  const DropoutRow row = dropout_row(ops::dropout_key(1, 2, 3, 4), 5, 6);
  std::vector<uint32_t> bits;
  for (uint32_t column : {0u, 1u, 2u, 1000u}) bits.push_back(dropout_bits(row, column));
  EXPECT_THAT(bits, testing::ElementsAre(1082342740u, 1986292579u, 173423517u, 861998627u));
}

TEST(Dropout, EveryPartOfTheKeyMatters) {
  const uint64_t key = ops::dropout_key(1, 2, 3, 4);
  EXPECT_NE(key, ops::dropout_key(2, 2, 3, 4));
  EXPECT_NE(key, ops::dropout_key(1, 3, 3, 4));
  EXPECT_NE(key, ops::dropout_key(1, 2, 4, 4));
  EXPECT_NE(key, ops::dropout_key(1, 2, 3, 5));
  EXPECT_NE(key, ops::dropout_key(2, 1, 3, 4)) << "not a sum";
}

TEST(Dropout, KeepRatesOfRowsColumnsAndNeighboursAreIndependent) {
  using namespace ops::internal;
  constexpr int64_t kRows = 400, kColumns = 1000;
  for (const double probability : {0.1, 0.5, 0.9}) {
    const uint32_t threshold = dropout_threshold(probability);
    at::Tensor kept = at::empty({kRows, kColumns}, at::kDouble);
    double* out = kept.data_ptr<double>();
    for (int64_t r = 0; r < kRows; ++r) {
      // Rows of 20 heads and 20 queries: keys that differ in few bits.
      const DropoutRow row = dropout_row(7, r % 20, r / 20);
      for (uint32_t c = 0; c < kColumns; ++c) *out++ = dropout_bits(row, c) >= threshold ? 1 : 0;
    }
    const double variance = probability * (1 - probability);
    const auto sigmas = [&](const at::Tensor& mean, double count) {
      return ((mean - (1 - probability)).abs().max() / std::sqrt(variance / count)).item<double>();
    };
    EXPECT_LT(sigmas(kept.mean(), kRows * kColumns), 4);
    EXPECT_LT(sigmas(kept.mean(0), kRows), 5);
    EXPECT_LT(sigmas(kept.mean(1), kColumns), 5);
    const at::Tensor centred = kept - (1 - probability);
    for (const int64_t step : {1, 2, 8, 16, 64}) {
      for (const int64_t dim : {0, 1}) {
        const int64_t count = kept.size(dim) - step;
        const at::Tensor product = centred.narrow(dim, 0, count) * centred.narrow(dim, step, count);
        const double z = product.mean().item<double>() / variance *
                         std::sqrt(static_cast<double>(product.numel()));
        EXPECT_LT(std::abs(z), 4.5) << "distance " << step << " along " << dim;
      }
    }
  }
}

TEST(Dropout, ScalesWhatIsKeptAndVariesWithTheKey) {
  Inputs in(at::kDouble);
  in.sequences = ops::equal_sequences(1, 200);
  in.q = in.k = at::zeros({200, 1, 4}, at::kDouble);
  in.v = at::eye(200, at::kDouble).unsqueeze(1);
  in.sinks = at::Tensor();
  in.options.dropout = {0.25, 9};
  const at::Tensor p = in.run().squeeze(1) * 200;
  // Every entry is either 0 or 1 / 0.75 of an equal share.
  const double off = at::minimum(p.abs(), (p - 1 / 0.75).abs()).max().item<double>();
  EXPECT_LT(off, 1e-12);
  EXPECT_NEAR(p.mean().item<double>(), 1.0, 4 * std::sqrt(0.25 / 0.75 / 40000));
  in.options.dropout.key = 10;
  const double agree = (p > 0).eq(in.run().squeeze(1) > 0).to(at::kDouble).mean().item<double>();
  EXPECT_NEAR(agree, 0.75 * 0.75 + 0.25 * 0.25, 0.02);
  in.options.dropout.probability = 0;
  EXPECT_NEAR(in.run().max().item<double>() * 200, 1.0, 1e-12);
}

TEST(Dropout, ReplaysExactlyForAnyNumberOfThreads) {
  Inputs in(at::kFloat);
  in.sequences = ops::packed_sequences({0, 300, 420});
  in.q = normal_tensor({420, 4, 16}, at::kFloat, 1);
  in.k = normal_tensor({420, 2, 16}, at::kFloat, 2);
  in.v = normal_tensor({420, 2, 16}, at::kFloat, 3);
  in.options.rule = {-1, 0};
  in.options.dropout = {0.4, 3};
  const int threads = at::get_num_threads();
  at::set_num_threads(1);
  const at::Tensor one = in.run();
  at::set_num_threads(2);
  const at::Tensor two = in.run();
  at::set_num_threads(threads);
  EXPECT_TRUE(same_bits(one, two));
}

}  // namespace
}  // namespace headway::test
