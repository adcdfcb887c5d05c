// What must hold of attention for any input: gradients, invariances of windows, packing and time.
// Not for: agreement of kernels (tests/kernels).
#include "headway/ops/attention.h"

#include <functional>
#include <vector>

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include "tests/support/tensors.h"
#include "tests/support/tolerance.h"

namespace headway::test {
namespace {

struct Draw {
  at::Tensor q, k, v, sinks;
  ops::Sequences sequences;
  ops::AttentionOptions options;

  at::Tensor run() const { return ops::attention(q, k, v, sinks, sequences, options); }
};

/// Packed sequences of random lengths with random heads, sizes, rule, cap and sinks.
Draw draw(at::ScalarType type, int max_length, bool causal_only = false) {
  Draw d;
  const auto lengths = *rc::gen::container<std::vector<int>>(3, rc::gen::inRange(0, max_length));
  std::vector<int64_t> cu{0};
  for (int length : lengths) cu.push_back(cu.back() + length);
  d.sequences = ops::packed_sequences(cu);
  const int64_t groups = *rc::gen::inRange(1, 4), heads = groups * *rc::gen::inRange(1, 4);
  const int64_t key_dim = *rc::gen::inRange(1, 20), value_dim = *rc::gen::inRange(1, 20);
  const uint64_t seed = *rc::gen::inRange<uint64_t>(0, 1 << 20);
  d.q = normal_tensor({cu.back(), heads, key_dim}, type, seed);
  d.k = normal_tensor({cu.back(), groups, key_dim}, type, seed + 1);
  d.v = normal_tensor({cu.back(), groups, value_dim}, type, seed + 2);
  if (*rc::gen::arbitrary<bool>()) d.sinks = normal_tensor({heads}, type, seed + 3) * 2;
  d.options.scale = 0.1 * *rc::gen::inRange(1, 12);
  d.options.rule.left = *rc::gen::inRange(-1, max_length);
  d.options.rule.right = causal_only ? 0 : *rc::gen::inRange(-1, 4);
  d.options.softcap = *rc::gen::element(0.0, 3.0);
  d.options.dropout = {*rc::gen::element(0.0, 0.0, 0.3), seed};
  return d;
}

/// A random mask and bias that broadcast in random dimensions, or not.
void draw_pairs(Draw& d) {
  const auto shape = [&] {
    std::vector<int64_t> full{d.sequences.num_sequences(), d.q.size(1), d.sequences.max_q,
                              d.sequences.max_k};
    for (int64_t& size : full) size = *rc::gen::arbitrary<bool>() ? size : 1;
    return full;
  };
  if (*rc::gen::arbitrary<bool>()) d.options.mask = normal_tensor(shape(), at::kDouble, 31) > 0.5;
  if (*rc::gen::arbitrary<bool>()) d.options.bias = normal_tensor(shape(), at::kDouble, 32);
}

RC_GTEST_PROP(AttentionProperty, NumericGradient, ()) {
  Draw d = draw(at::kDouble, 9);
  RC_PRE(d.q.numel() > 0);
  draw_pairs(d);
  const at::Tensor weight = normal_tensor({d.q.size(0), d.q.size(1), d.v.size(2)}, at::kDouble, 77);
  const auto loss = [&] { return (d.run() * weight).sum(); };
  std::vector<at::Tensor*> inputs{&d.q, &d.k, &d.v};
  if (d.sinks.defined()) inputs.push_back(&d.sinks);
  if (d.options.bias.defined()) inputs.push_back(&d.options.bias);
  std::vector<at::Tensor> gradients;
  for (at::Tensor* x : inputs) *x = x->detach().requires_grad_();
  loss().backward();
  for (at::Tensor* x : inputs) gradients.push_back(x->grad());
  // Along one random direction per input: central difference, error O(step^2).
  for (size_t n = 0; n < inputs.size(); ++n) {
    const at::Tensor x = inputs[n]->detach(),
                     direction = normal_tensor(x.sizes(), at::kDouble, 90 + n);
    const double step = 1e-5;
    *inputs[n] = x + direction * step;
    const double above = loss().item<double>();
    *inputs[n] = x - direction * step;
    const double below = loss().item<double>();
    *inputs[n] = x;
    const double numeric = (above - below) / (2 * step);
    const double analytic = (gradients[n] * direction).sum().item<double>();
    RC_ASSERT(std::abs(numeric - analytic) < 1e-6 * (1 + std::abs(analytic)));
  }
}

RC_GTEST_PROP(AttentionProperty, WindowOfWholeSequenceIsFull, ()) {
  Draw d = draw(*rc::gen::element(at::kFloat, at::kDouble), 150, true);
  d.options.rule.left = d.sequences.max_k;
  const at::Tensor windowed = d.run();
  d.options.rule.left = -1;
  RC_ASSERT(same_bits(windowed, d.run()));
}

RC_GTEST_PROP(AttentionProperty, PackedEqualsSeparate, ()) {
  Draw d = draw(*rc::gen::element(at::kFloat, at::kDouble), 150);
  d.options.dropout = {};  // draws belong to rows of the packed batch
  const at::Tensor packed = d.run();
  for (int64_t n = 0; n < d.sequences.num_sequences(); ++n) {
    const int64_t first = d.sequences.cu_q[n], length = d.sequences.cu_q[n + 1] - first;
    Draw one = d;
    one.q = d.q.narrow(0, first, length);
    one.k = d.k.narrow(0, first, length);
    one.v = d.v.narrow(0, first, length);
    one.sequences = ops::equal_sequences(1, length);
    RC_ASSERT(close(one.run(), packed.narrow(0, first, length), tolerance(d.q.scalar_type(), 200),
                    1e-12));
  }
}

RC_GTEST_PROP(AttentionProperty, FutureTokensChangeNothing, ()) {
  Draw d = draw(*rc::gen::element(at::kFloat, at::kDouble), 250, true);
  const int64_t length = d.q.size(0);
  RC_PRE(length > 1);
  d.sequences = ops::equal_sequences(1, length);
  const int64_t cut = *rc::gen::inRange<int64_t>(1, length);
  const at::Tensor before = d.run().narrow(0, 0, cut).clone();
  for (at::Tensor* x : {&d.q, &d.k, &d.v}) x->narrow(0, cut, length - cut).mul_(-3.0).add_(1.0);
  const at::Tensor after = d.run().narrow(0, 0, cut);
  RC_ASSERT(close(after, before, tolerance(d.q.scalar_type(), 250), 1e-12));
}

RC_GTEST_PROP(AttentionProperty, PrefillAndDecodeEqualFull, ()) {
  Draw d = draw(*rc::gen::element(at::kFloat, at::kDouble), 200, true);
  const int64_t length = d.q.size(0);
  RC_PRE(length > 1);
  d.sequences = ops::equal_sequences(1, length);
  d.options.dropout = {};
  const at::Tensor full = d.run();
  const int64_t past = *rc::gen::inRange<int64_t>(0, length);
  const int64_t count = *rc::gen::inRange<int64_t>(1, length - past + 1);
  Draw step = d;
  step.q = d.q.narrow(0, past, count);
  step.k = d.k.narrow(0, 0, past + count);
  step.v = d.v.narrow(0, 0, past + count);
  step.sequences = ops::continued_sequences({past}, {count});
  RC_ASSERT(
      close(step.run(), full.narrow(0, past, count), tolerance(d.q.scalar_type(), 250), 1e-12));
}

RC_GTEST_PROP(AttentionProperty, KeyOrderDoesNotMatterWithoutARule, ()) {
  Draw d = draw(*rc::gen::element(at::kFloat, at::kDouble), 60);
  const int64_t length = d.q.size(0);
  RC_PRE(length > 1);
  d.sequences = ops::equal_sequences(1, length);
  d.options.rule = {-1, -1};
  d.options.dropout = {};
  const at::Tensor before = d.run();
  d.k = d.k.flip({0}).contiguous();
  d.v = d.v.flip({0}).contiguous();
  RC_ASSERT(close(d.run(), before, tolerance(d.q.scalar_type(), 200), 1e-12));
}

}  // namespace
}  // namespace headway::test
