// Properties of the row-wise ops for random shapes: analytic = numeric gradients in double, and the
// identities their formulas imply.
#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include "headway/ops/activation.h"
#include "headway/ops/gate.h"
#include "headway/ops/norm.h"
#include "headway/ops/rope.h"

#include "tests/support/numeric_gradient.h"
#include "tests/support/tensors.h"
#include "tests/support/tolerance.h"

namespace headway::ops {
namespace {

using test::gradients_agree;
using Tensors = std::vector<at::Tensor>;

at::Tensor doubles(at::IntArrayRef sizes, uint64_t seed) {
  return test::normal_tensor(sizes, at::kDouble, seed);
}

int64_t any_size(int64_t last) { return *rc::gen::inRange<int64_t>(1, last + 1); }
uint64_t any_seed() { return *rc::gen::inRange<uint64_t>(0, 1u << 30); }

void require(const testing::AssertionResult& result) {
  if (!result) RC_FAIL(result.message());
}

RC_GTEST_PROP(RowwiseGradients, RmsNorm, ()) {
  const auto flavour = *rc::gen::element(NormFlavour::kPlain, NormFlavour::kZeroCentered,
                                         NormFlavour::kFp32Weight, NormFlavour::kNoWeight);
  const int64_t rows = any_size(6), width = any_size(20);
  const uint64_t seed = any_seed();
  at::Tensor weight;
  if (flavour != NormFlavour::kNoWeight) weight = doubles({width}, seed + 1);
  require(gradients_agree(
      [=](const Tensors& in) { return Tensors{rms_norm(in[0], in[1], 1e-2, flavour)}; },
      {doubles({rows, width}, seed), weight}, seed + 2));
}

RC_GTEST_PROP(RowwiseGradients, AddRmsNorm, ()) {
  const auto flavour =
      *rc::gen::element(NormFlavour::kPlain, NormFlavour::kZeroCentered, NormFlavour::kFp32Weight);
  const int64_t rows = any_size(6), width = any_size(20);
  const uint64_t seed = any_seed();
  require(gradients_agree(
      [=](const Tensors& in) {
        const auto [sum, y] = add_rms_norm(in[0], in[1], in[2], 1e-2, flavour);
        return Tensors{sum, y};
      },
      {doubles({rows, width}, seed), doubles({rows, width}, seed + 1), doubles({width}, seed + 2)},
      seed + 3));
}

RC_GTEST_PROP(RowwiseGradients, LayerNorm, ()) {
  const int64_t rows = any_size(6), width = any_size(20);
  const uint64_t seed = any_seed();
  const bool with_weight = *rc::gen::arbitrary<bool>(), with_bias = *rc::gen::arbitrary<bool>();
  require(gradients_agree(
      [](const Tensors& in) { return Tensors{layer_norm(in[0], in[1], in[2], 1e-2)}; },
      {doubles({rows, width}, seed), with_weight ? doubles({width}, seed + 1) : at::Tensor(),
       with_bias ? doubles({width}, seed + 2) : at::Tensor()},
      seed + 3));
}

RC_GTEST_PROP(RowwiseGradients, Rope, ()) {
  const int64_t tokens = any_size(5), heads = any_size(3), pairs = any_size(6);
  const int64_t channels = 2 * pairs + *rc::gen::inRange<int64_t>(0, 4);
  const uint64_t seed = any_seed();
  const bool interleaved = *rc::gen::arbitrary<bool>();
  const at::Tensor cos = doubles({9, pairs}, seed + 1), sin = doubles({9, pairs}, seed + 2);
  const at::Tensor positions = test::integer_tensor({tokens}, 0, 9, seed + 3);
  require(gradients_agree(
      [=](const Tensors& in) { return Tensors{rope(in[0], cos, sin, positions, interleaved)}; },
      {doubles({tokens, heads, channels}, seed)}, seed + 4));
}

RC_GTEST_PROP(RowwiseGradients, SigmoidGate, ()) {
  const int64_t tokens = any_size(5), heads = any_size(4), channels = any_size(9);
  const uint64_t seed = any_seed();
  std::vector<int64_t> gate{tokens, heads};
  if (*rc::gen::arbitrary<bool>()) gate.push_back(channels);
  require(gradients_agree([](const Tensors& in) { return Tensors{sigmoid_gate(in[0], in[1])}; },
                          {doubles({tokens, heads, channels}, seed), doubles(gate, seed + 1)},
                          seed + 2));
}

RC_GTEST_PROP(RowwiseGradients, Activations, ()) {
  const auto kind = *rc::gen::element(ActivationKind::kSilu, ActivationKind::kGeluTanh,
                                      ActivationKind::kGelu, ActivationKind::kRelu);
  const int64_t rows = any_size(5), width = any_size(12);
  const uint64_t seed = any_seed();
  // At least 1e-3 away from the kinks of relu and of the clamps, which a difference must not span.
  const double limit = *rc::gen::element(0.0, 1.25);
  at::Tensor x = doubles({rows, 2 * width}, seed) * 2;
  for (const double kink : {0.0, limit, -limit}) {
    x = at::where((x - kink).abs() < 1e-3, x + 2e-3, x);
  }
  const at::Tensor act = activation(x, kind);
  RC_PRE((act - limit).abs().min().item<double>() > 1e-3 || limit == 0.0);
  require(gradients_agree(
      [=](const Tensors& in) { return Tensors{gated_activation(in[0], kind, limit)}; }, {x},
      seed + 1));
  require(gradients_agree([=](const Tensors& in) { return Tensors{activation(in[0], kind)}; }, {x},
                          seed + 2));
}

RC_GTEST_PROP(RowwiseIdentities, RopeTurnsBackAndKeepsLengths, ()) {
  const int64_t tokens = any_size(40), heads = any_size(5), pairs = any_size(40);
  const int64_t channels = 2 * pairs + *rc::gen::inRange<int64_t>(0, 9);
  const uint64_t seed = any_seed();
  const bool interleaved = *rc::gen::arbitrary<bool>();
  const at::Tensor angle = test::normal_tensor({tokens, pairs}, at::kFloat, seed) * 3;
  const at::Tensor cos = angle.cos(), sin = angle.sin(), positions = at::arange(tokens);
  const at::Tensor x = test::normal_tensor({tokens, heads, channels}, at::kFloat, seed + 1);
  const at::Tensor y = rope(x, cos, sin, positions, interleaved);
  const double allowed = test::tolerance(at::kFloat, 4);
  require(test::close(rope(y, cos, -sin, positions, interleaved), x, allowed));
  require(test::close(y.square().sum(-1), x.square().sum(-1), allowed));
}

RC_GTEST_PROP(RowwiseIdentities, LayoutsOfRopeAreAPermutationOfEachOther, ()) {
  const int64_t tokens = any_size(20), pairs = any_size(40);
  const uint64_t seed = any_seed();
  const auto type = *rc::gen::element(at::kFloat, at::kBFloat16);
  const at::Tensor cos = test::normal_tensor({tokens, pairs}, at::kFloat, seed);
  const at::Tensor sin = test::normal_tensor({tokens, pairs}, at::kFloat, seed + 1);
  const at::Tensor x = test::normal_tensor({tokens, 2, 2 * pairs}, type, seed + 2);
  const at::Tensor paired = x.view({tokens, 2, 2, pairs}).transpose(2, 3).reshape(x.sizes());
  const at::Tensor half = rope(x, cos, sin, at::arange(tokens), false);
  const at::Tensor interleaved = rope(paired, cos, sin, at::arange(tokens), true);
  require(test::same_bits(interleaved,
                          half.view({tokens, 2, 2, pairs}).transpose(2, 3).reshape(x.sizes())));
}

RC_GTEST_PROP(RowwiseIdentities, ScalingTheInputLeavesTheRmsNorm, ()) {
  const int64_t rows = any_size(40), width = any_size(200);
  const uint64_t seed = any_seed();
  const at::Tensor x = test::normal_tensor({rows, width}, at::kFloat, seed);
  const at::Tensor weight = test::normal_tensor({width}, at::kFloat, seed + 1);
  const at::Tensor y = rms_norm(x, weight, 0.0, NormFlavour::kPlain);
  // A power of two: not even the rounding changes.
  require(test::same_bits(rms_norm(x * 16, weight, 0.0, NormFlavour::kPlain), y));
  require(test::same_bits(add_rms_norm(x * 8, x * 8, weight, 0.0, NormFlavour::kPlain).second, y));
}

RC_GTEST_PROP(RowwiseIdentities, HeadWiseGateIsAnElementWiseOneRepeated, ()) {
  const int64_t tokens = any_size(20), heads = any_size(9), channels = any_size(70);
  const uint64_t seed = any_seed();
  const auto type = *rc::gen::element(at::kFloat, at::kBFloat16, at::kDouble);
  const at::Tensor x = test::normal_tensor({tokens, heads, channels}, type, seed);
  const at::Tensor gate = test::normal_tensor({tokens, heads}, type, seed + 1);
  const at::Tensor repeated = gate.unsqueeze(-1).expand(x.sizes());
  // σ goes through one lane here and another there: equal to the last bit or so.
  require(
      test::close(sigmoid_gate(x, gate), sigmoid_gate(x, repeated), test::tolerance(type, 1) / 4));
}

}  // namespace
}  // namespace headway::ops
