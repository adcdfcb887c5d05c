// Attention: reference against scalar loops, every kernel and Highway target against the reference.
// Not for: argument errors (tests/unit/ops) or invariances (tests/property/ops).
#include "headway/ops/attention.h"

#include <algorithm>
#include <cmath>
#include <ostream>
#include <string>
#include <vector>

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>
#include <gtest/gtest.h>

#include "headway/ops/kernel_table.h"

#include "tests/support/naive_attention.h"
#include "tests/support/tensors.h"
#include "tests/support/tolerance.h"

namespace headway::test {
namespace {

struct Case {
  std::string name;
  std::vector<int64_t> q_lengths;
  std::vector<int64_t> k_lengths;  // empty: as q_lengths
  int64_t heads = 2, groups = 1, key_dim = 16, value_dim = 16;
  ops::AttentionOptions options{};
  bool sinks = false;
  bool strided = false;  // q, k and v are views of one fused projection
  double magnitude = 1;  // of q: large values make sharp softmaxes
};

void PrintTo(const Case& c, std::ostream* out) { *out << c.name; }

std::vector<int64_t> boundaries(const std::vector<int64_t>& lengths) {
  std::vector<int64_t> cu{0};
  for (int64_t length : lengths) cu.push_back(cu.back() + length);
  return cu;
}

ops::AttentionOptions rule(int64_t left, int64_t right, double softcap = 0, double scale = 0.3) {
  ops::AttentionOptions options;
  options.scale = scale;
  options.rule = {left, right};
  options.softcap = softcap;
  return options;
}

ops::AttentionOptions dropping(double probability, ops::AttentionOptions options) {
  options.dropout = {probability, 0x1234'5678'9abc'def0};
  return options;
}

std::vector<Case> cases() {
  std::vector<Case> list;
  for (int64_t s : {1, 2, 63, 64, 65, 130, 300}) {
    list.push_back({"causal" + std::to_string(s), {s}, {}, 4, 2, 32, 32, rule(-1, 0)});
  }
  list.push_back({"mha", {97}, {}, 3, 3, 64, 64, rule(-1, 0)});
  list.push_back({"mqa", {97}, {}, 5, 1, 64, 64, rule(-1, 0)});
  list.push_back({"many_heads", {9}, {}, 200, 1, 16, 16, rule(-1, 0)});
  list.push_back({"odd_dims", {130}, {}, 6, 2, 19, 45, rule(-1, 0)});
  list.push_back({"value_larger", {70}, {}, 4, 2, 24, 80, rule(-1, 0)});
  list.push_back({"dim_one", {40}, {}, 2, 1, 1, 1, rule(-1, 0)});
  list.push_back({"full", {150}, {}, 4, 2, 32, 32, rule(-1, -1)});
  list.push_back({"window1", {130}, {}, 4, 2, 32, 32, rule(0, 0)});
  list.push_back({"window17", {300}, {}, 4, 1, 32, 32, rule(16, 0)});
  list.push_back({"window128", {700}, {}, 2, 1, 32, 32, rule(127, 0)});
  list.push_back({"both_sides", {300}, {}, 4, 2, 32, 32, rule(20, 7)});
  list.push_back({"right_only", {300}, {}, 4, 2, 32, 32, rule(-1, 40)});
  list.push_back({"left_only", {300}, {}, 4, 2, 32, 32, rule(13, -1)});
  list.push_back({"softcap", {130}, {}, 4, 2, 32, 32, rule(-1, 0, 5.0), false, false, 4});
  list.push_back({"softcap_window", {230}, {}, 4, 2, 32, 32, rule(30, 0, 2.0), true});
  list.push_back({"sinks", {130}, {}, 4, 2, 32, 32, rule(-1, 0), true});
  list.push_back({"sinks_window_packed", {30, 200, 5}, {}, 6, 3, 32, 32, rule(33, 0), true});
  list.push_back({"packed", {1, 64, 0, 3, 200, 17}, {}, 4, 2, 32, 32, rule(-1, 0)});
  list.push_back({"no_sequence", {}, {}, 4, 2, 32, 32, rule(-1, 0)});
  list.push_back({"only_empty", {0, 0}, {}, 4, 2, 32, 32, rule(-1, 0)});
  list.push_back({"continued", {5, 100, 1}, {105, 130, 700}, 4, 2, 32, 32, rule(-1, 0)});
  list.push_back(
      {"continued_window", {5, 100, 1}, {105, 330, 700}, 4, 2, 32, 32, rule(50, 0), true});
  list.push_back({"decode", {1, 1, 1, 1}, {1, 64, 517, 1300}, 8, 2, 64, 64, rule(-1, 0)});
  list.push_back({"decode_odd", {1, 1, 2}, {7, 600, 65}, 7, 1, 19, 45, rule(-1, 0, 3.0), true});
  list.push_back({"decode_mqa", {1}, {1100}, 33, 1, 32, 32, rule(-1, 0)});
  list.push_back({"decode_window", {1, 3}, {1300, 900}, 4, 2, 32, 32, rule(99, 0), true});
  list.push_back({"no_keys", {3, 40}, {0, 40}, 4, 2, 32, 32, rule(-1, 0)});
  list.push_back({"no_keys_sinks", {30, 40}, {0, 40}, 4, 2, 32, 32, rule(-1, 0), true});
  list.push_back({"hidden_rows", {70, 6}, {20, 3}, 4, 2, 32, 32, rule(-1, 0)});
  list.push_back({"hidden_rows_sinks", {70, 6}, {20, 3}, 4, 2, 32, 32, rule(5, 0), true});
  list.push_back({"strided", {100, 31}, {}, 6, 2, 24, 24, rule(-1, 0), false, true});
  list.push_back({"sharp", {130}, {}, 4, 2, 64, 64, rule(-1, 0, 0, 1.0), false, false, 10});
  list.push_back({"negative_scale", {130}, {}, 4, 2, 32, 32, rule(20, 0, 0, -0.4), true});
  list.push_back({"zero_scale", {90}, {}, 4, 2, 32, 32, rule(-1, 0, 0, 0.0)});
  list.push_back({"dropout", {130}, {}, 4, 2, 32, 32, dropping(0.3, rule(-1, 0))});
  list.push_back(
      {"dropout_packed_sinks", {30, 200, 5}, {}, 6, 3, 32, 32, dropping(0.5, rule(33, 0)), true});
  list.push_back({"dropout_softcap", {230}, {}, 4, 2, 19, 45, dropping(0.1, rule(-1, -1, 2.0))});
  list.push_back({"dropout_continued",
                  {5, 100, 1, 2},
                  {105, 130, 700, 3},
                  4,
                  2,
                  32,
                  32,
                  dropping(0.6, rule(-1, 0)),
                  true});
  list.push_back({"dropout_everything", {70}, {}, 4, 2, 32, 32, dropping(1 - 1e-12, rule(-1, 0))});
  return list;
}

struct Inputs {
  at::Tensor q, k, v, sinks, d_out;
  ops::Sequences sequences;
};

Inputs make_inputs(const Case& c, at::ScalarType type) {
  Inputs in;
  in.sequences.cu_q = boundaries(c.q_lengths);
  in.sequences.cu_k = c.k_lengths.empty() ? in.sequences.cu_q : boundaries(c.k_lengths);
  const int64_t tokens = in.sequences.cu_q.back(), keys = in.sequences.cu_k.back();
  if (c.strided) {
    const auto fused = normal_tensor({tokens, c.heads + 2 * c.groups, c.key_dim}, type, 1);
    in.q = fused.narrow(1, 0, c.heads);
    in.k = fused.narrow(1, c.heads, c.groups);
    in.v = fused.narrow(1, c.heads + c.groups, c.groups);
  } else {
    in.q = normal_tensor({tokens, c.heads, c.key_dim}, type, 1) * c.magnitude;
    in.k = normal_tensor({keys, c.groups, c.key_dim}, type, 2);
    in.v = normal_tensor({keys, c.groups, c.value_dim}, type, 3);
  }
  in.d_out = normal_tensor({tokens, c.heads, c.value_dim}, type, 4);
  if (c.sinks) in.sinks = normal_tensor({c.heads}, type, 5) * 3;
  return in;
}

struct Outputs {
  at::Tensor out, dq, dk, dv, d_sinks;
};

Outputs run(const Inputs& in, const ops::AttentionOptions& options) {
  const auto leaf = [](const at::Tensor& x) {
    return x.defined() ? x.detach().requires_grad_() : x;
  };
  const at::Tensor q = leaf(in.q), k = leaf(in.k), v = leaf(in.v), sinks = leaf(in.sinks);
  const at::Tensor out = ops::attention(q, k, v, sinks, in.sequences, options);
  out.backward(in.d_out);
  // Without a tape the same function runs outside autograd.
  EXPECT_TRUE(
      same_bits(ops::attention(in.q, in.k, in.v, in.sinks, in.sequences, options), out.detach()));
  return {out.detach(), q.grad(), k.grad(), v.grad(),
          sinks.defined() ? sinks.grad() : at::Tensor()};
}

/// Terms of the longest sum behind a value.
int64_t reduction_length(const Inputs& in, const Case& c) {
  int64_t keys = 1;
  for (int64_t n = 0; n < in.sequences.num_sequences(); ++n) {
    keys = std::max({keys, in.sequences.cu_k[n + 1] - in.sequences.cu_k[n],
                     in.sequences.cu_q[n + 1] - in.sequences.cu_q[n]});
  }
  return keys + c.key_dim;
}

void expect_close(const Outputs& got, const Outputs& want, double bound) {
  EXPECT_TRUE(close(got.out, want.out, bound, bound)) << "out";
  EXPECT_TRUE(close(got.dq, want.dq, bound, bound)) << "dq";
  EXPECT_TRUE(close(got.dk, want.dk, bound, bound)) << "dk";
  EXPECT_TRUE(close(got.dv, want.dv, bound, bound)) << "dv";
  if (want.d_sinks.defined()) {
    EXPECT_TRUE(close(got.d_sinks, want.d_sinks, bound, bound)) << "d_sinks";
  }
}

/// Scores of size z carry absolute errors of z roundings, which exp turns into relative ones.
double bound_for(const Inputs& in, const Case& c, at::ScalarType type) {
  return tolerance(type, reduction_length(in, c)) * std::max(1.0, c.magnitude);
}

class AttentionCase : public testing::TestWithParam<Case> {};

TEST_P(AttentionCase, ReferenceMatchesScalarLoops) {
  const Case& c = GetParam();
  const Inputs in = make_inputs(c, at::kDouble);
  const ops::ScopedKernel force("attention", "reference");
  const Outputs got = run(in, c.options);
  const auto want = naive_attention(in.q, in.k, in.v, in.sinks, in.d_out, in.sequences, c.options);
  expect_close(got, {want.out, want.dq, want.dk, want.dv, c.sinks ? want.d_sinks : at::Tensor()},
               bound_for(in, c, at::kDouble));
}

TEST_P(AttentionCase, EveryTargetMatchesReference) {
  const Case& c = GetParam();
  for (const at::ScalarType type : {at::kFloat, at::kBFloat16, at::kHalf}) {
    const Inputs in = make_inputs(c, type);
    // The same rounded inputs in double: both kernels are compared with the exact result.
    Inputs exact{in.q.to(at::kDouble),     in.k.to(at::kDouble),
                 in.v.to(at::kDouble),     in.sinks.defined() ? in.sinks.to(at::kDouble) : in.sinks,
                 in.d_out.to(at::kDouble), in.sequences};
    const ops::ScopedKernel reference("attention", "reference");
    const Outputs want = run(exact, c.options);
    {
      SCOPED_TRACE("reference in " + std::string(c10::toString(type)));
      expect_close(run(in, c.options), want, bound_for(in, c, type));
    }
    for (const std::string& target : ops::supported_targets()) {
      SCOPED_TRACE("cpu@" + target + " in " + c10::toString(type));
      const ops::ScopedKernel force("attention", "cpu", target);
      expect_close(run(in, c.options), want, bound_for(in, c, type));
    }
  }
}

TEST_P(AttentionCase, HiddenRowsAreZeroAndRunsRepeat) {
  const Case& c = GetParam();
  const Inputs in = make_inputs(c, at::kFloat);
  const Outputs first = run(in, c.options), second = run(in, c.options);
  EXPECT_TRUE(same_bits(first.out, second.out));
  EXPECT_TRUE(same_bits(first.dq, second.dq));
  EXPECT_TRUE(same_bits(first.dk, second.dk));
  EXPECT_TRUE(same_bits(first.dv, second.dv));
  for (int64_t n = 0; n < in.sequences.num_sequences(); ++n) {
    // Queries that stand before the first key, beyond the reach of `right`.
    const int64_t missing = in.sequences.cu_q[n + 1] - in.sequences.cu_q[n] -
                            (in.sequences.cu_k[n + 1] - in.sequences.cu_k[n]);
    const int64_t hidden = c.options.rule.right < 0 ? 0 : missing - c.options.rule.right;
    for (int64_t t = in.sequences.cu_q[n]; t < in.sequences.cu_q[n] + hidden; ++t) {
      EXPECT_EQ(first.out[t].abs().max().item<float>(), 0.0f) << "token " << t;
      EXPECT_EQ(first.dq[t].abs().max().item<float>(), 0.0f) << "token " << t;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Grid, AttentionCase, testing::ValuesIn(cases()),
                         [](const auto& info) { return info.param.name; });

TEST(AttentionKernel, PoisonOfNeighbouringSequencesDoesNotLeak) {
  Case c{"", {40, 64, 30}, {}, 4, 2, 32, 32, rule(-1, 0)};
  Inputs in = make_inputs(c, at::kFloat);
  const at::Tensor clean = run(in, c.options).out;
  for (at::Tensor* x : {&in.k, &in.v}) x->narrow(0, 40, 64).fill_(NAN);
  const at::Tensor poisoned = run(in, c.options).out;
  EXPECT_TRUE(same_bits(poisoned.narrow(0, 0, 40), clean.narrow(0, 0, 40)));
  EXPECT_TRUE(same_bits(poisoned.narrow(0, 104, 30), clean.narrow(0, 104, 30)));
  EXPECT_TRUE(poisoned.narrow(0, 40, 64).isnan().all().item<bool>()) << "a NaN must not be hidden";
}

TEST(AttentionKernel, HugeLogitsPickOneKey) {
  constexpr double kHuge = 1e8;
  // Scores near 1e9: exp of anything but exact differences would overflow, in backward too.
  Case c{"", {70}, {}, 4, 2, 32, 32, rule(-1, 0, 0, 1.0), true};
  Inputs in = make_inputs(c, at::kFloat);
  in.q *= kHuge;
  Inputs exact{in.q.to(at::kDouble),     in.k.to(at::kDouble),     in.v.to(at::kDouble),
               in.sinks.to(at::kDouble), in.d_out.to(at::kDouble), in.sequences};
  const Outputs want = run(exact, c.options);
  for (const std::string& target : ops::supported_targets()) {
    SCOPED_TRACE(target);
    const ops::ScopedKernel force("attention", "cpu", target);
    const Outputs got = run(in, c.options);
    EXPECT_TRUE(close(got.out, want.out, 1e-6)) << "out";
    EXPECT_TRUE(close(got.dv, want.dv, 1e-6)) << "dv";
    // d_out·v - d_out·out should cancel; what is left of it is multiplied by k and by q.
    EXPECT_TRUE(close(got.dq, want.dq, 0, 1e-5)) << "dq";
    EXPECT_TRUE(close(got.dk, want.dk, 0, 1e-4 * kHuge)) << "dk";
  }
}

TEST(AttentionKernel, GradientsOnlyWhereAsked) {
  Case c{"", {40}, {}, 4, 2, 32, 32, rule(-1, 0), true};
  const Inputs in = make_inputs(c, at::kFloat);
  const at::Tensor v = in.v.detach().requires_grad_();
  ops::attention(in.q, in.k, v, in.sinks, in.sequences, c.options).backward(in.d_out);
  EXPECT_TRUE(same_bits(v.grad(), run(in, c.options).dv));
}

TEST(AttentionKernel, ExpandedUpstreamGradient) {
  Case c{"", {40}, {}, 4, 2, 32, 32, rule(-1, 0)};
  Inputs in = make_inputs(c, at::kFloat);
  const at::Tensor q = in.q.detach().requires_grad_();
  ops::attention(q, in.k, in.v, {}, in.sequences, c.options).sum().backward();
  in.d_out = at::ones_like(in.d_out);
  EXPECT_TRUE(same_bits(q.grad(), run(in, c.options).dq));
}

}  // namespace
}  // namespace headway::test
