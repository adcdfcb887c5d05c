// Experts: every kernel on every Highway target against scalar loops, forward and backward, over
// dtypes, odd sizes, activations, biases, dropped choices and experts without tokens.
#include "headway/ops/experts.h"

#include <cmath>
#include <functional>

#include <ATen/Functions.h>
#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "headway/base/error.h"
#include "headway/ops/kernel_table.h"

#include "tests/support/kernel_variants.h"
#include "tests/support/naive_rowwise.h"
#include "tests/support/numeric_gradient.h"
#include "tests/support/tensors.h"
#include "tests/support/tolerance.h"

namespace headway::ops {
namespace {

using test::close;
using test::KernelVariant;
using test::normal_tensor;

using Rows = std::vector<std::vector<double>>;

Rows rows_of(const at::Tensor& x) {
  const auto flat = test::to_doubles(x.flatten());
  Rows rows;
  for (int64_t t = 0; t < x.size(0); ++t) {
    rows.emplace_back(flat.begin() + t * x.size(1), flat.begin() + (t + 1) * x.size(1));
  }
  return rows;
}

struct Size {
  int64_t tokens, top_k, experts, inputs, width, outputs;
};

struct Problem {
  at::Tensor x, weights, experts;
  ExpertWeights expert;
  ExpertOptions options;
  at::Tensor d_y;

  std::vector<at::Tensor> leaves() const {
    std::vector<at::Tensor> all = {x, weights, expert.up, expert.down};
    if (expert.up_bias.defined()) all.insert(all.end(), {expert.up_bias, expert.down_bias});
    return all;
  }
  at::Tensor run() const { return ops::experts(x, weights, experts, expert, options); }
  std::vector<at::Tensor> gradients() const {
    for (const at::Tensor& leaf : leaves()) leaf.mutable_grad().reset();
    run().backward(d_y);
    std::vector<at::Tensor> all;
    for (const at::Tensor& leaf : leaves()) all.push_back(leaf.grad());
    return all;
  }
};

at::Tensor leaf(const at::Tensor& x) { return x.detach().clone().set_requires_grad(true); }

/// Every token chooses different experts; the last expert stays without tokens if there is room,
/// and some choices are dropped.
at::Tensor choices(const Size& size, bool drops) {
  std::vector<int64_t> all;
  const int64_t used = size.experts > size.top_k ? size.experts - 1 : size.experts;
  for (int64_t t = 0; t < size.tokens; ++t) {
    for (int64_t j = 0; j < size.top_k; ++j) {
      const bool dropped = drops && (t * 3 + j) % 7 == 0;
      all.push_back(dropped ? -1 : (t * t + j) % used);
    }
  }
  return at::tensor(all, at::kLong).view({size.tokens, size.top_k});
}

Problem make(const Size& s, at::ScalarType type, const ExpertOptions& given, bool bias,
             bool drops) {
  Problem p;
  p.options = given;
  p.options.num_experts = s.experts;
  const int64_t rows = given.gated ? 2 * s.width : s.width;
  const at::ScalarType wide = type == at::kDouble ? at::kDouble : at::kFloat;
  p.x = leaf(normal_tensor({s.tokens, s.inputs}, type, 1));
  p.weights = leaf(normal_tensor({s.tokens, s.top_k}, wide, 2).abs());
  p.experts = choices(s, drops);
  const double scale = 1 / std::sqrt(double(s.inputs));
  p.expert.up = leaf(normal_tensor({s.experts * rows, s.inputs}, type, 3) * scale);
  p.expert.down = leaf(normal_tensor({s.experts * s.outputs, s.width}, type, 4) *
                       (1 / std::sqrt(double(s.width))));
  if (bias) {
    p.expert.up_bias = leaf(normal_tensor({s.experts * rows}, type, 5));
    p.expert.down_bias = leaf(normal_tensor({s.experts * s.outputs}, type, 6));
  }
  p.d_y = normal_tensor({s.tokens, s.outputs}, type, 7);
  return p;
}

test::NaiveCurve curve_of(ActivationKind kind) {
  switch (kind) {
    case ActivationKind::kSilu:
      return test::NaiveCurve::kSilu;
    case ActivationKind::kGeluTanh:
      return test::NaiveCurve::kGeluTanh;
    case ActivationKind::kGelu:
      return test::NaiveCurve::kGelu;
    case ActivationKind::kQuickGelu:
      return test::NaiveCurve::kQuickGelu;
    default:
      return test::NaiveCurve::kRelu;
  }
}

double dot(const std::vector<double>& a, const std::vector<double>& b) {
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
  return sum;
}

/// y of the formula, token by token.
at::Tensor naive(const Problem& p, const Size& s) {
  const Rows x = rows_of(p.x), up = rows_of(p.expert.up), down = rows_of(p.expert.down),
             w = rows_of(p.weights);
  const auto chosen = test::to_integers(p.experts.flatten());
  const bool bias = p.expert.up_bias.defined();
  const auto up_bias = bias ? test::to_doubles(p.expert.up_bias) : std::vector<double>();
  const auto down_bias = bias ? test::to_doubles(p.expert.down_bias) : std::vector<double>();
  const int64_t rows = p.options.gated ? 2 * s.width : s.width;
  at::Tensor result = at::zeros({s.tokens, s.outputs}, at::kDouble);
  double* y = result.data_ptr<double>();
  for (int64_t t = 0; t < s.tokens; ++t) {
    for (int64_t j = 0; j < s.top_k; ++j) {
      const int64_t e = chosen[t * s.top_k + j];
      if (e < 0) continue;
      test::Matrix inner(1, rows);
      for (int64_t r = 0; r < rows; ++r) {
        inner.values[r] = dot(up[e * rows + r], x[t]) + (bias ? up_bias[e * rows + r] : 0.0);
      }
      std::vector<double> h(s.width);
      const auto curve = curve_of(p.options.activation);
      if (p.options.gated) {
        h = test::naive_gated(inner, curve,
                              {p.options.limit, p.options.limit_input, p.options.offset})
                .values;
      } else {
        for (int64_t f = 0; f < s.width; ++f) h[f] = test::naive_curve(curve, inner.values[f]);
      }
      for (int64_t o = 0; o < s.outputs; ++o) {
        const int64_t row = e * s.outputs + o;
        y[t * s.outputs + o] += w[t][j] * (dot(down[row], h) + (bias ? down_bias[row] : 0.0));
      }
    }
  }
  return result;
}

constexpr Size kSizes[] = {{1, 1, 1, 3, 2, 3},
                           {1, 2, 5, 7, 5, 6},
                           {9, 3, 4, 8, 16, 8},
                           {17, 2, 6, 33, 12, 20},
                           {65, 4, 9, 16, 7, 16}};

double allowed(at::ScalarType type, const Size& s) {
  // Two products and an activation, each rounded.
  return 4 * test::tolerance(type, s.inputs + s.width + s.top_k);
}

class ExpertsKernel : public testing::TestWithParam<std::tuple<KernelVariant, at::ScalarType>> {};

TEST_P(ExpertsKernel, AgreesWithScalarLoops) {
  const auto& [variant, type] = GetParam();
  const ScopedKernel forced("experts", variant.kernel, variant.target);
  for (const Size& size : kSizes) {
    for (const auto kind : {ActivationKind::kSilu, ActivationKind::kGeluTanh, ActivationKind::kGelu,
                            ActivationKind::kRelu, ActivationKind::kQuickGelu}) {
      for (const bool gated : {true, false}) {
        SCOPED_TRACE(testing::Message() << size.tokens << " tokens, activation "
                                        << static_cast<int>(kind) << " gated " << gated);
        const bool input = gated && kind == ActivationKind::kQuickGelu;
        const ExpertOptions options{1, kind, gated, gated ? 0.7 : 0.0, input, input ? 1.0 : 0.0};
        const Problem p = make(size, type, options, gated, true);
        const at::Tensor want = naive(p, size);
        EXPECT_TRUE(close(p.run(), want, allowed(type, size)));
        at::NoGradGuard no_grad;  // the path of decoding
        const at::Tensor y = p.run();
        EXPECT_EQ(y.scalar_type(), type);
        EXPECT_TRUE(close(y, want, allowed(type, size)));
      }
    }
  }
}

TEST_P(ExpertsKernel, GradientsAreTheReferencesInDouble) {
  const auto& [variant, type] = GetParam();
  const Size big{900, 2, 5, 24, 20, 24};  // several blocks of rows of one expert
  for (const Size& size : {kSizes[1], kSizes[2], kSizes[3], big}) {
    for (const bool bias : {false, true}) {
      const ExpertOptions options{1,    ActivationKind::kSilu, true, bias ? 0.7 : 0.0,
                                  bias, bias ? 1.0 : 0.0};
      const Problem p = make(size, type, options, bias, true);
      Problem exact = p;
      const auto widen = [](at::Tensor& x) {
        if (x.defined()) x = leaf(x.to(at::kDouble));
      };
      widen(exact.x);
      widen(exact.weights);
      widen(exact.expert.up);
      widen(exact.expert.down);
      widen(exact.expert.up_bias);
      widen(exact.expert.down_bias);
      exact.d_y = p.d_y.to(at::kDouble);
      std::vector<at::Tensor> want;
      {
        const ScopedKernel reference("experts", "reference");
        want = exact.gradients();
      }
      const ScopedKernel forced("experts", variant.kernel, variant.target);
      const auto got = p.gradients();
      for (size_t i = 0; i < want.size(); ++i) {
        EXPECT_EQ(got[i].scalar_type(), p.leaves()[i].scalar_type());
        const double factor = size.tokens > 100 ? 4 : 2;
        EXPECT_TRUE(close(got[i], want[i], factor * allowed(type, size))) << "gradient " << i;
      }
    }
  }
}

TEST_P(ExpertsKernel, ExpertsWithoutTokensGetZeroGradients) {
  const auto& [variant, type] = GetParam();
  const ScopedKernel forced("experts", variant.kernel, variant.target);
  const Size size{6, 1, 3, 8, 4, 8};
  Problem p = make(size, type, {1, ActivationKind::kSilu, true, 0.0}, true, false);
  p.experts = at::full({6, 1}, 1, at::kLong);
  const auto gradients = p.gradients();
  for (size_t i = 2; i < gradients.size(); ++i) {
    const int64_t rows = gradients[i].size(0) / 3;
    EXPECT_TRUE(gradients[i].narrow(0, 0, rows).eq(0).all().item<bool>()) << i;
    EXPECT_FALSE(gradients[i].narrow(0, rows, rows).eq(0).all().item<bool>()) << i;
    EXPECT_TRUE(gradients[i].narrow(0, 2 * rows, rows).eq(0).all().item<bool>()) << i;
  }
  p.experts = at::full({6, 1}, -1, at::kLong);  // nobody goes anywhere
  EXPECT_TRUE(p.run().eq(0).all().item<bool>());
  for (const at::Tensor& gradient : p.gradients()) {
    EXPECT_TRUE(gradient.eq(0).all().item<bool>());
  }
}

TEST_P(ExpertsKernel, OrderOfTokensAndExpertsDoesNotMatter) {
  const auto& [variant, type] = GetParam();
  const ScopedKernel forced("experts", variant.kernel, variant.target);
  const Size size{40, 3, 8, 16, 8, 12};
  const Problem p = make(size, type, {1, ActivationKind::kSilu, true, 0.0}, false, true);
  const at::Tensor y = p.run();
  const at::Tensor turned = at::arange(size.tokens).flip(0);
  Problem tokens = p;
  tokens.x = p.x.index_select(0, turned);
  tokens.weights = p.weights.index_select(0, turned);
  tokens.experts = p.experts.index_select(0, turned);
  EXPECT_TRUE(close(tokens.run(), y.index_select(0, turned), allowed(type, size)));
  Problem experts = p;
  const auto flipped = [&](const at::Tensor& stacked) {
    return stacked.unflatten(0, {size.experts, -1}).flip(0).flatten(0, 1).contiguous();
  };
  experts.expert.up = flipped(p.expert.up);
  experts.expert.down = flipped(p.expert.down);
  experts.experts = at::where(p.experts < 0, p.experts, size.experts - 1 - p.experts);
  EXPECT_TRUE(close(experts.run(), y, allowed(type, size)));
}

std::vector<KernelVariant> variants() { return test::kernel_variants({"blocks"}, {}); }

INSTANTIATE_TEST_SUITE_P(Blocks, ExpertsKernel,
                         testing::Combine(testing::ValuesIn(variants()),
                                          testing::Values(at::kFloat, at::kBFloat16)));
INSTANTIATE_TEST_SUITE_P(Reference, ExpertsKernel,
                         testing::Combine(testing::Values(KernelVariant{"reference", ""}),
                                          testing::Values(at::kFloat, at::kBFloat16, at::kDouble)));

TEST(Experts, GradientsAgreeWithDifferences) {
  const Size size{7, 2, 4, 5, 3, 4};
  for (const bool gated : {true, false}) {
    const ExpertOptions options{1, ActivationKind::kGelu, gated, 0.0};
    const Problem p = make(size, at::kDouble, options, true, true);
    const auto run = [&](const std::vector<at::Tensor>& in) {
      return std::vector<at::Tensor>{
          ops::experts(in[0], in[1], p.experts, {in[2], in[4], in[3], in[5]}, p.options)};
    };
    std::vector<at::Tensor> inputs;
    for (const at::Tensor& each : p.leaves()) inputs.push_back(each.detach());
    EXPECT_TRUE(test::gradients_agree(run, inputs, 5));
  }
}

TEST(Experts, BitsDoNotDependOnThreads) {
  const Size size{700, 2, 3, 32, 24, 32};
  const Problem p = make(size, at::kFloat, {1, ActivationKind::kSilu, true, 0.0}, false, false);
  const int threads = at::get_num_threads();
  at::set_num_threads(1);
  const at::Tensor y = p.run().detach();
  const auto gradients = p.gradients();
  at::set_num_threads(3);
  EXPECT_TRUE(test::same_bits(p.run().detach(), y));
  const auto again = p.gradients();
  for (size_t i = 0; i < again.size(); ++i) {
    EXPECT_TRUE(test::same_bits(again[i], gradients[i])) << i;
  }
  at::set_num_threads(threads);
}

TEST(Experts, FewTokensEqualManyTokens) {
  const Size size{40, 2, 6, 32, 16, 24};
  const Problem p = make(size, at::kFloat, {1, ActivationKind::kSilu, true, 0.0}, true, true);
  at::NoGradGuard no_grad;
  const at::Tensor all = p.run();
  for (int64_t t = 0; t < size.tokens; ++t) {
    Problem one = p;
    one.x = p.x.narrow(0, t, 1);
    one.weights = p.weights.narrow(0, t, 1);
    one.experts = p.experts.narrow(0, t, 1);
    EXPECT_TRUE(close(one.run(), all.narrow(0, t, 1), allowed(at::kFloat, size))) << t;
  }
}

TEST(Experts, ErrorsNameTheArgument) {
  const Size size{4, 2, 3, 8, 4, 8};
  const Problem p = make(size, at::kFloat, {1, ActivationKind::kSilu, true, 0.0}, true, false);
  const auto error = [&](const std::function<void(Problem&)>& change) {
    Problem changed = p;
    change(changed);
    try {
      changed.run();
    } catch (const ShapeError& caught) {
      return std::string(caught.what());
    }
    return std::string("no ShapeError");
  };
  using testing::HasSubstr;
  EXPECT_THAT(error([](Problem& q) { q.experts = q.experts.to(at::kInt); }),
              HasSubstr("experts = Int, allowed int64"));
  EXPECT_THAT(error([](Problem& q) {
                q.experts = at::full({4, 2}, 3, at::kLong);
              }),
              HasSubstr("experts = 3, allowed below 3"));
  EXPECT_THAT(error([](Problem& q) { q.weights = q.weights.to(at::kDouble); }),
              HasSubstr("weights"));
  EXPECT_THAT(error([](Problem& q) { q.weights = q.weights.narrow(0, 0, 3); }),
              HasSubstr("weights"));
  EXPECT_THAT(error([](Problem& q) { q.expert.up = q.expert.up.narrow(0, 0, 8); }),
              HasSubstr("up = "));
  EXPECT_THAT(error([](Problem& q) { q.expert.down = q.expert.down.narrow(0, 0, 7); }),
              HasSubstr("down = "));
  EXPECT_THAT(error([](Problem& q) { q.expert.down_bias = q.expert.down_bias.narrow(0, 0, 7); }),
              HasSubstr("down_bias"));
  EXPECT_THAT(error([](Problem& q) { q.options.limit = -1; }), HasSubstr("limit = -1"));
}

}  // namespace
}  // namespace headway::ops
