// Packed sequences with gaps between them equal the same documents alone, forward and backward, for
// every rule and kernel; padding has output and gradient 0 and nobody sees it.
// Not for: what boundaries are allowed (tests/unit/ops/packed_boundaries_test.cpp).
#include <limits>
#include <vector>

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>
#include <gtest/gtest.h>

#include "headway/ops/attention.h"
#include "headway/ops/kernel_table.h"
#include "headway/ops/packed_boundaries.h"

#include "tests/support/kernel_variants.h"
#include "tests/support/tensors.h"
#include "tests/support/tolerance.h"

namespace headway::test {
namespace {

constexpr int64_t kHeads = 4;
constexpr int64_t kGroups = 2;
constexpr int64_t kKeyDim = 10;
constexpr int64_t kValueDim = 7;

struct Layout {
  std::vector<int64_t> cu;
  std::vector<int64_t> padded;
  int64_t rows() const { return padded.back(); }
};

/// Lengths of the specification's table and upstream's examples; the last has gaps of every size,
/// an empty sequence with padding and repeated tail entries.
std::vector<Layout> layouts() {
  return {{{0, 6, 19, 22, 32}, {0, 6, 19, 22, 32}},
          {{0, 18, 44, 52, 96, 118}, {0, 20, 48, 56, 100, 128}},
          {{0, 17, 48, 59}, {0, 17, 48, 64}},
          {{0, 1, 1, 5, 70, 70, 70}, {0, 2, 5, 9, 140, 140, 140}}};
}

struct Rule {
  const char* name;
  ops::AttentionRule rule;
};

const std::vector<Rule>& rules() {
  static const std::vector<Rule> all = {{"causal", {-1, 0}},
                                        {"no mask", {-1, -1}},
                                        {"window", {5, 0}},
                                        {"two-sided", {4, 3}},
                                        {"ahead", {-1, 2}}};
  return all;
}

struct Tensors {
  at::Tensor q, k, v, sinks;

  Tensors rows(int64_t first, int64_t count) const {
    return {q.narrow(0, first, count), k.narrow(0, first, count), v.narrow(0, first, count), sinks};
  }
};

Tensors draw(const Layout& layout, at::ScalarType type, bool with_sinks) {
  return {normal_tensor({layout.rows(), kHeads, kKeyDim}, type, 1),
          normal_tensor({layout.rows(), kGroups, kKeyDim}, type, 2),
          normal_tensor({layout.rows(), kGroups, kValueDim}, type, 3),
          with_sinks ? normal_tensor({kHeads}, type, 4) * 2 : at::Tensor()};
}

struct Result {
  at::Tensor out, dq, dk, dv, d_sinks;
};

Result run(Tensors t, const at::Tensor& d_out, const ops::Sequences& sequences,
           const ops::AttentionRule& rule) {
  for (at::Tensor* x : {&t.q, &t.k, &t.v, &t.sinks}) {
    if (x->defined()) *x = x->detach().clone().set_requires_grad(true);
  }
  ops::AttentionOptions options;
  options.scale = 0.3;
  options.rule = rule;
  const at::Tensor out = ops::attention(t.q, t.k, t.v, t.sinks, sequences, options);
  out.backward(d_out);
  return {out.detach(), t.q.grad(), t.k.grad(), t.v.grad(),
          t.sinks.defined() ? t.sinks.grad() : at::Tensor()};
}

/// Every document alone, its rows put back where they stand in the packed run; elsewhere 0.
Result separate(const Tensors& t, const at::Tensor& d_out, const Layout& layout,
                const ops::AttentionRule& rule) {
  Result all{at::zeros_like(d_out), at::zeros_like(t.q), at::zeros_like(t.k), at::zeros_like(t.v),
             t.sinks.defined() ? at::zeros_like(t.sinks) : at::Tensor()};
  for (size_t n = 0; n + 1 < layout.cu.size(); ++n) {
    const int64_t first = layout.padded[n];
    const int64_t length = layout.cu[n + 1] - layout.cu[n];
    if (length == 0) continue;
    const Result one = run(t.rows(first, length), d_out.narrow(0, first, length),
                           ops::equal_sequences(1, length), rule);
    all.out.narrow(0, first, length).copy_(one.out);
    all.dq.narrow(0, first, length).copy_(one.dq);
    all.dk.narrow(0, first, length).copy_(one.dk);
    all.dv.narrow(0, first, length).copy_(one.dv);
    if (all.d_sinks.defined()) all.d_sinks += one.d_sinks;
  }
  return all;
}

ops::Sequences sequences_of(const Layout& layout) {
  ops::PackedBoundaries boundaries;
  boundaries.cu_seqlens_q = layout.cu;
  boundaries.cu_seqlens_q_padded = layout.padded;
  return ops::sequences_of(boundaries, layout.rows(), layout.rows());
}

void expect_equal(const Result& got, const Result& want, double relative) {
  EXPECT_TRUE(close(got.out, want.out, relative, 1e-12));
  EXPECT_TRUE(close(got.dq, want.dq, relative, 1e-12));
  EXPECT_TRUE(close(got.dk, want.dk, relative, 1e-12));
  EXPECT_TRUE(close(got.dv, want.dv, relative, 1e-12));
  if (want.d_sinks.defined()) {
    EXPECT_TRUE(close(got.d_sinks, want.d_sinks, 4 * relative, 1e-12));
  }
}

/// Exactly 0, not merely small.
void expect_zero_padding(const Result& got, const Layout& layout) {
  for (size_t n = 0; n + 1 < layout.cu.size(); ++n) {
    const int64_t first = layout.padded[n] + layout.cu[n + 1] - layout.cu[n];
    const int64_t count = layout.padded[n + 1] - first;
    for (const at::Tensor& x : {got.out, got.dq, got.dk, got.dv}) {
      EXPECT_EQ(at::count_nonzero(x.narrow(0, first, count)).item<int64_t>(), 0);
    }
  }
}

class PaddedAttention : public testing::TestWithParam<KernelVariant> {};

TEST_P(PaddedAttention, EqualsSeparateDocumentsForwardAndBackward) {
  const auto& [kernel, target] = GetParam();
  const ops::ScopedKernel forced("attention", kernel, target);
  const std::vector<at::ScalarType> types = kernel == "reference"
                                                ? std::vector{at::kFloat, at::kDouble}
                                                : std::vector{at::kFloat, at::kBFloat16};
  for (const at::ScalarType type : types) {
    for (const Layout& layout : layouts()) {
      for (const Rule& rule : rules()) {
        SCOPED_TRACE(std::string(c10::toString(type)) + " " + rule.name + " rows " +
                     std::to_string(layout.rows()));
        const bool with_sinks = layout.rows() % 64 == 0;
        const Tensors t = draw(layout, type, with_sinks);
        const at::Tensor d_out = normal_tensor({layout.rows(), kHeads, kValueDim}, type, 5);
        const Result got = run(t, d_out, sequences_of(layout), rule.rule);
        expect_equal(got, separate(t, d_out, layout, rule.rule), 4 * tolerance(type, 140));
        expect_zero_padding(got, layout);
      }
    }
  }
}

TEST_P(PaddedAttention, NobodySeesPadding) {
  const auto& [kernel, target] = GetParam();
  const ops::ScopedKernel forced("attention", kernel, target);
  const Layout layout = layouts()[1];
  const Tensors clean = draw(layout, at::kFloat, false);
  Tensors dirty{clean.q.clone(), clean.k.clone(), clean.v.clone(), {}};
  for (size_t n = 0; n + 1 < layout.cu.size(); ++n) {
    const int64_t first = layout.padded[n] + layout.cu[n + 1] - layout.cu[n];
    for (const at::Tensor& x : {dirty.q, dirty.k, dirty.v}) {
      x.narrow(0, first, layout.padded[n + 1] - first)
          .fill_(std::numeric_limits<float>::quiet_NaN());
    }
  }
  const at::Tensor d_out = normal_tensor({layout.rows(), kHeads, kValueDim}, at::kFloat, 5);
  const Result a = run(clean, d_out, sequences_of(layout), {-1, -1});
  const Result b = run(dirty, d_out, sequences_of(layout), {-1, -1});
  EXPECT_TRUE(same_bits(a.out, b.out));
  EXPECT_TRUE(same_bits(a.dq, b.dq));
  EXPECT_TRUE(same_bits(a.dk, b.dk));
  EXPECT_TRUE(same_bits(a.dv, b.dv));
}

TEST_P(PaddedAttention, OtherKeysThanQueriesAndATail) {
  const auto& [kernel, target] = GetParam();
  const ops::ScopedKernel forced("attention", kernel, target);
  ops::PackedBoundaries boundaries;
  boundaries.cu_seqlens_q = {0, 5, 12};
  boundaries.cu_seqlens_q_padded = {{0, 8, 16}};
  boundaries.cu_seqlens_kv = {0, 9, 20};
  boundaries.cu_seqlens_kv_padded = {{0, 9, 24}};
  boundaries.tail = ops::TailPolicy::kAppendDummySequence;
  const at::Tensor q = normal_tensor({20, kHeads, kKeyDim}, at::kFloat, 1);
  const at::Tensor k = normal_tensor({27, kGroups, kKeyDim}, at::kFloat, 2);
  const at::Tensor v = normal_tensor({27, kGroups, kValueDim}, at::kFloat, 3);
  for (const Rule& rule : rules()) {
    SCOPED_TRACE(rule.name);
    ops::AttentionOptions options;
    options.rule = rule.rule;
    const at::Tensor got =
        ops::attention(q, k, v, {}, ops::sequences_of(boundaries, 20, 27), options);
    struct Span {
      int64_t q0, sq, k0, sk;
    };
    for (const Span& span : {Span{0, 5, 0, 9}, Span{8, 7, 9, 11}, Span{16, 4, 24, 3}}) {
      ops::Sequences one = ops::continued_sequences({0}, {span.sq});
      one.cu_k = {0, span.sk};
      one.max_k = span.sk;
      const at::Tensor want =
          ops::attention(q.narrow(0, span.q0, span.sq), k.narrow(0, span.k0, span.sk),
                         v.narrow(0, span.k0, span.sk), {}, one, options);
      EXPECT_TRUE(close(got.narrow(0, span.q0, span.sq), want, tolerance(at::kFloat, 20), 1e-12));
    }
    EXPECT_EQ(at::count_nonzero(got.narrow(0, 5, 3)).item<int64_t>(), 0);
    EXPECT_EQ(at::count_nonzero(got.narrow(0, 15, 1)).item<int64_t>(), 0);
  }
}

TEST(PaddedAttentionBfloat16, PointsWhereFloat32Points) {
  for (const Layout& layout : layouts()) {
    const Tensors wide = draw(layout, at::kFloat, false);
    const Tensors narrow{
        wide.q.to(at::kBFloat16), wide.k.to(at::kBFloat16), wide.v.to(at::kBFloat16), {}};
    const at::Tensor d_out = normal_tensor({layout.rows(), kHeads, kValueDim}, at::kFloat, 5);
    const Result want = separate(wide, d_out, layout, {-1, 0});
    const Result got = run(narrow, d_out.to(at::kBFloat16), sequences_of(layout), {-1, 0});
    const auto cosine = [](const at::Tensor& a, const at::Tensor& b) {
      const at::Tensor x = a.to(at::kDouble).flatten(), y = b.to(at::kDouble).flatten();
      return (at::dot(x, y) / (x.norm() * y.norm())).item<double>();
    };
    EXPECT_GE(cosine(got.out, want.out), 0.999);
    EXPECT_GE(cosine(got.dq, want.dq), 0.999);
    EXPECT_GE(cosine(got.dk, want.dk), 0.999);
    EXPECT_GE(cosine(got.dv, want.dv), 0.999);
  }
}

INSTANTIATE_TEST_SUITE_P(Kernels, PaddedAttention,
                         testing::ValuesIn(kernel_variants({"cpu"}, {"reference"})),
                         [](const auto& info) {
                           return info.param.kernel +
                                  (info.param.target.empty() ? "" : "_" + info.param.target);
                         });

}  // namespace
}  // namespace headway::test
