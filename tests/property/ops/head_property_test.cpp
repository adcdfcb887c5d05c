// What must hold of embedding, linear, column runs and the head's loss for any input: analytic
// gradients are the numeric ones, parts add up to the whole.
// Not for: agreement of kernels (tests/kernels).
#include <vector>

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include "headway/ops/embedding.h"
#include "headway/ops/linear.h"
#include "headway/ops/linear_cross_entropy.h"

#include "tests/support/numeric_gradient.h"
#include "tests/support/tensors.h"

namespace headway::test {
namespace {

int64_t draw_size(int most) { return *rc::gen::inRange<int64_t>(1, most); }
uint64_t draw_seed() { return *rc::gen::inRange<uint64_t>(0, 1 << 20); }

void require(const testing::AssertionResult& result) {
  if (!result) RC_FAIL(result.message());
}

RC_GTEST_PROP(HeadProperty, EmbeddingGradientIsNumeric, ()) {
  const int64_t rows = draw_size(9), width = draw_size(6), tokens = draw_size(12);
  const uint64_t seed = draw_seed();
  const at::Tensor ids = integer_tensor({tokens}, 0, rows, seed);
  const TensorFunction lookup = [&](const std::vector<at::Tensor>& in) -> std::vector<at::Tensor> {
    return {ops::embedding(ids, in[0], 1.7)};
  };
  require(gradients_agree(lookup, {normal_tensor({rows, width}, at::kDouble, seed)}, seed));
}

RC_GTEST_PROP(HeadProperty, LinearGradientIsNumeric, ()) {
  const int64_t tokens = draw_size(9), inputs = draw_size(8), outputs = draw_size(8);
  const uint64_t seed = draw_seed();
  at::Tensor bias;
  if (*rc::gen::arbitrary<bool>()) bias = normal_tensor({outputs}, at::kDouble, seed + 3);
  const TensorFunction product = [](const std::vector<at::Tensor>& in) -> std::vector<at::Tensor> {
    return {ops::linear(in[0], in[1], in[2])};
  };
  require(gradients_agree(product,
                          {normal_tensor({tokens, inputs}, at::kDouble, seed + 1),
                           normal_tensor({outputs, inputs}, at::kDouble, seed + 2), bias},
                          seed));
}

RC_GTEST_PROP(HeadProperty, ColumnRunsAndScaledResidualHaveNumericGradients, ()) {
  const int64_t tokens = draw_size(6), a = draw_size(5), b = draw_size(5);
  const uint64_t seed = draw_seed();
  const TensorFunction mixed = [&](const std::vector<at::Tensor>& in) -> std::vector<at::Tensor> {
    const auto runs = ops::split_columns(in[0], {a, b, a});
    return {ops::scaled_residual(runs[0] * runs[2], runs[2], in[1]), runs[0]};
  };
  require(gradients_agree(mixed,
                          {normal_tensor({tokens, 2 * a + b}, at::kDouble, seed + 1),
                           normal_tensor({1}, at::kDouble, seed + 2)},
                          seed));
}

struct Head {
  at::Tensor x, weight, labels;
  ops::CrossEntropyOptions options;
};

Head draw_head() {
  const int64_t tokens = draw_size(10), width = draw_size(6), vocabulary = draw_size(20);
  const uint64_t seed = draw_seed();
  Head head{normal_tensor({tokens, width}, at::kDouble, seed + 1),
            normal_tensor({vocabulary, width}, at::kDouble, seed + 2),
            integer_tensor({tokens}, 0, vocabulary, seed + 3),
            {}};
  head.options.softcap = *rc::gen::element(0.0, 1.5, 30.0);
  head.options.z_loss = *rc::gen::element(0.0, 0.05);
  head.options.divisor = *rc::gen::element<int64_t>(0, 7);
  for (int64_t t = 0; t < tokens; ++t) {
    if (*rc::gen::inRange(0, 4) == 0) head.labels[t] = -100;
  }
  return head;
}

RC_GTEST_PROP(HeadProperty, CrossEntropyGradientIsNumeric, ()) {
  const Head head = draw_head();
  const TensorFunction loss = [&](const std::vector<at::Tensor>& in) -> std::vector<at::Tensor> {
    return {ops::linear_cross_entropy(in[0], in[1], head.labels, head.options).loss};
  };
  require(gradients_agree(loss, {head.x, head.weight}, draw_seed()));
}

RC_GTEST_PROP(HeadProperty, LossesOfPartsAddUpUnderOneDivisor, ()) {
  Head head = draw_head();
  head.options.divisor = 5;
  const int64_t tokens = head.x.size(0), cut = *rc::gen::inRange<int64_t>(0, tokens + 1);
  const auto part = [&](int64_t first, int64_t count) {
    return ops::linear_cross_entropy(head.x.narrow(0, first, count), head.weight,
                                     head.labels.narrow(0, first, count), head.options)
        .loss.item<double>();
  };
  const double whole = part(0, tokens);
  RC_ASSERT(std::abs(part(0, cut) + part(cut, tokens - cut) - whole) <= 1e-12 * (1 + whole));
}

RC_GTEST_PROP(HeadProperty, IgnoredTokensDoNotMatter, ()) {
  const Head head = draw_head();
  const auto run = [&](const at::Tensor& x) {
    return ops::linear_cross_entropy(x, head.weight, head.labels, head.options).loss.item<double>();
  };
  const at::Tensor changed = head.x.clone();
  changed.index_put_({head.labels == -100}, at::full({}, 1e6, at::kDouble));
  RC_ASSERT(run(changed) == run(head.x));
}

}  // namespace
}  // namespace headway::test
