// Cross-attention as a layer: against scalar formulas, packed against separate, cached against
// projected anew, gradients, errors.
// Not for: Megatron's recorded values (tests/golden/megatron).
#include "headway/nn/cross_attention.h"

#include <cmath>

#include <ATen/Functions.h>
#include <ATen/core/grad_mode.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "headway/base/error.h"

#include "tests/support/message_of.h"
#include "tests/support/naive_attention.h"
#include "tests/support/numeric_gradient.h"
#include "tests/support/tensors.h"

namespace headway::nn {
namespace {

using testing::HasSubstr;
using testing_support::message_of;

spec::CrossAttentionSpec odd_spec() {
  spec::CrossAttentionSpec spec;
  spec.hidden_size = 12;
  spec.context_size = 10;
  spec.num_heads = 3;
  spec.head_dim = 4;
  spec.v_head_dim = 5;
  spec.scale = 0.7;
  spec.rope = spec::RopeSpec{.base = 100.0};
  spec.logit_softcap = 5.0;
  spec.sinks = spec::SinkKind::kLearnable;
  spec.qkv_bias = spec.output_bias = true;
  return spec;
}

struct Layer {
  explicit Layer(const spec::CrossAttentionSpec& spec, at::ScalarType type = at::kDouble)
      : parameters(spec::cross_attention_tensors(spec, {.std = 0.5}, 1, "cross."), type, at::kCPU) {
    parameters.initialise(5);
    const at::NoGradGuard no_grad;
    uint64_t seed = 90;
    for (const at::Tensor& tensor : parameters.tensors()) {
      if (tensor.dim() == 1) tensor.copy_(test::normal_tensor(tensor.sizes(), type, ++seed));
    }
    module = std::make_unique<CrossAttention>(spec, ParameterScope(parameters, "cross."));
  }
  Parameters parameters;
  std::unique_ptr<CrossAttention> module;
};

/// The formula, stage by stage, with the naive attention of the tests.
at::Tensor by_hand(const Layer& layer, const spec::CrossAttentionSpec& spec, const at::Tensor& x,
                   const ops::Sequences& queries, const at::Tensor& states,
                   const ops::Sequences& keys) {
  const auto get = [&](const char* name) {
    return layer.parameters.get(std::string("cross.") + name).detach();
  };
  const auto turned = [&](const at::Tensor& heads, const at::Tensor& positions) {
    at::Tensor out = heads.clone();
    const int64_t half = spec.head_dim / 2;
    for (int64_t t = 0; t < heads.size(0); ++t) {
      for (int64_t i = 0; i < half; ++i) {
        const double angle = positions[t].item<double>() *
                             std::pow(100.0, -2.0 * static_cast<double>(i) / spec.head_dim);
        const at::Tensor a = heads.select(0, t).select(1, i);
        const at::Tensor b = heads.select(0, t).select(1, i + half);
        out.select(0, t).select(1, i).copy_(a * std::cos(angle) - b * std::sin(angle));
        out.select(0, t).select(1, i + half).copy_(b * std::cos(angle) + a * std::sin(angle));
      }
    }
    return out;
  };
  const at::Tensor q =
      (at::mm(x, get("q.weight").t()) + get("q.bias")).view({-1, spec.num_heads, spec.head_dim});
  const at::Tensor kv = at::mm(states, get("kv.weight").t()) + get("kv.bias");
  const int64_t key_rows = spec.num_heads * spec.head_dim;
  const at::Tensor k = kv.narrow(1, 0, key_rows).reshape({-1, spec.num_heads, spec.head_dim});
  const at::Tensor v =
      kv.narrow(1, key_rows, kv.size(1) - key_rows).reshape({-1, spec.num_heads, spec.v_head_dim});
  ops::Sequences both = queries;
  both.cu_k = keys.cu_q;
  ops::AttentionOptions options;
  options.scale = spec.scale;
  options.softcap = *spec.logit_softcap;
  options.rule = {-1, -1};
  const at::Tensor core =
      test::naive_attention(
          turned(q, queries.positions), turned(k, keys.positions), v, get("sinks"),
          at::zeros({x.size(0), spec.num_heads, spec.v_head_dim}, at::kDouble), both, options)
          .out;
  return at::mm(core.flatten(1), get("out.weight").t()) + get("out.bias");
}

TEST(CrossAttention, IsItsFormulaForLengthsOfTheirOwn) {
  const auto spec = odd_spec();
  const Layer layer(spec);
  const auto queries = ops::packed_sequences({0, 4, 4, 9});
  const auto keys = ops::packed_sequences({0, 7, 9, 10});
  const at::Tensor x = test::normal_tensor({9, 12}, at::kDouble, 1);
  const at::Tensor states = test::normal_tensor({10, 10}, at::kDouble, 2);
  const at::NoGradGuard no_grad;
  const at::Tensor got = layer.module->forward(x, queries, layer.module->context(states, keys));
  EXPECT_TRUE(test::close(got, by_hand(layer, spec, x, queries, states, keys), 1e-12));
}

TEST(CrossAttention, PackedEqualsSeparateForwardAndBackward) {
  const auto spec = odd_spec();
  const at::Tensor x = test::normal_tensor({9, 12}, at::kDouble, 3);
  const at::Tensor states = test::normal_tensor({11, 10}, at::kDouble, 4);
  const at::Tensor cotangent = test::normal_tensor({9, 12}, at::kDouble, 5);
  const std::vector<int64_t> cu_q = {0, 2, 8, 9}, cu_k = {0, 6, 7, 11};
  const Layer packed(spec), separate(spec);
  const at::Tensor got = packed.module->forward(
      x, ops::packed_sequences(cu_q), packed.module->context(states, ops::packed_sequences(cu_k)));
  got.backward(cotangent);
  std::vector<at::Tensor> parts;
  for (size_t n = 0; n < 3; ++n) {
    const int64_t sq = cu_q[n + 1] - cu_q[n], sk = cu_k[n + 1] - cu_k[n];
    const auto context =
        separate.module->context(states.narrow(0, cu_k[n], sk), ops::packed_sequences({0, sk}));
    const at::Tensor part =
        separate.module->forward(x.narrow(0, cu_q[n], sq), ops::packed_sequences({0, sq}), context);
    part.backward(cotangent.narrow(0, cu_q[n], sq));
    parts.push_back(part);
  }
  EXPECT_TRUE(test::close(got, at::cat(parts), 1e-13));
  for (size_t i = 0; i < packed.parameters.tensors().size(); ++i) {
    EXPECT_TRUE(test::close(packed.parameters.tensors()[i].grad(),
                            separate.parameters.tensors()[i].grad(), 1e-12))
        << packed.parameters.specs()[i].name;
  }
}

/// Decoding: one projection of the context serves every step.
TEST(CrossAttention, StepsOnAKeptContextEqualTheWholeForward) {
  for (const at::ScalarType type : {at::kDouble, at::kFloat}) {
    const Layer layer(odd_spec(), type);
    const int64_t batch = 3, length = 5;
    const at::Tensor x = test::normal_tensor({batch * length, 12}, type, 6);
    const at::Tensor states = test::normal_tensor({12, 10}, type, 7);
    const at::NoGradGuard no_grad;
    const CrossContext context =
        layer.module->context(states, ops::packed_sequences({0, 5, 6, 12}));
    const at::Tensor whole = layer.module->forward(x, ops::equal_sequences(batch, length), context);
    for (int64_t t = 0; t < length; ++t) {
      const std::vector<int64_t> past(batch, t), one(batch, 1);
      const at::Tensor row = x.view({batch, length, 12}).select(1, t).contiguous();
      const at::Tensor step =
          layer.module->forward(row, ops::continued_sequences(past, one), context);
      EXPECT_TRUE(test::close(step, whole.view({batch, length, 12}).select(1, t),
                              type == at::kDouble ? 1e-13 : 1e-5));
    }
  }
}

TEST(CrossAttention, ContextsCanBeReordered) {
  const Layer layer(odd_spec());
  const at::Tensor states = test::normal_tensor({12, 10}, at::kDouble, 8);
  const at::Tensor x = test::normal_tensor({4, 12}, at::kDouble, 9);
  const at::NoGradGuard no_grad;
  const CrossContext context = layer.module->context(states, ops::packed_sequences({0, 5, 6, 12}));
  const CrossContext beams = context.select({2, 0, 0, 2});
  EXPECT_EQ(beams.boundaries, (std::vector<int64_t>{0, 6, 11, 16, 22}));
  const at::Tensor got = layer.module->forward(x, ops::equal_sequences(4, 1), beams);
  for (const auto& [row, source] : {std::pair<int64_t, int64_t>{0, 2}, {1, 0}, {2, 0}, {3, 2}}) {
    const at::Tensor alone = layer.module->forward(x.narrow(0, row, 1), ops::equal_sequences(1, 1),
                                                   context.select({source}));
    EXPECT_TRUE(test::close(got.narrow(0, row, 1), alone, 1e-14));
  }
  EXPECT_GT(context.bytes(), 0);
  EXPECT_EQ(context.select({}).num_sequences(), 0);
  EXPECT_THROW(context.select({3}), ShapeError);
  EXPECT_THROW(context.select({-1}), ShapeError);
}

TEST(CrossAttention, AnEmptyContextGivesTheBiasAlone) {
  spec::CrossAttentionSpec spec = odd_spec();
  spec.sinks = spec::SinkKind::kNone;
  const Layer layer(spec);
  at::Tensor states = test::normal_tensor({3, 10}, at::kDouble, 10).set_requires_grad(true);
  at::Tensor x = test::normal_tensor({4, 12}, at::kDouble, 11).set_requires_grad(true);
  const at::Tensor got =
      layer.module->forward(x, ops::packed_sequences({0, 2, 4}),
                            layer.module->context(states, ops::packed_sequences({0, 3, 3})));
  const at::Tensor bias = layer.parameters.get("cross.out.bias").detach();
  EXPECT_TRUE(at::equal(got.detach().narrow(0, 2, 2), bias.expand({2, 12})));
  got.sum().backward();
  EXPECT_EQ(x.grad().narrow(0, 2, 2).abs().max().item<double>(), 0.0);
  EXPECT_TRUE(x.grad().isfinite().all().item<bool>());
}

TEST(CrossAttention, AnalyticGradientsAreTheNumericOnes) {
  const auto spec = odd_spec();
  const Layer layer(spec);
  const auto queries = ops::packed_sequences({0, 3, 5});
  const auto keys = ops::packed_sequences({0, 2, 6});
  std::vector<at::Tensor> inputs = {test::normal_tensor({5, 12}, at::kDouble, 12),
                                    test::normal_tensor({6, 10}, at::kDouble, 13)};
  for (const at::Tensor& tensor : layer.parameters.tensors()) {
    inputs.push_back(tensor.detach().clone());
  }
  const auto function = [&](const std::vector<at::Tensor>& given) -> std::vector<at::Tensor> {
    Parameters parameters(layer.parameters.specs(), at::kDouble, at::kCPU);
    ParameterScope scope(parameters, "cross.");
    // The module reads its tensors through handles: put the given ones behind them.
    for (size_t i = 0; i < parameters.tensors().size(); ++i) {
      parameters.tensors()[i].set_requires_grad(false);
      parameters.tensors()[i].copy_(given[i + 2]);
    }
    const CrossAttention module(spec, scope);
    return {module.forward(given[0], queries, module.context(given[1], keys))};
  };
  EXPECT_TRUE(test::gradients_agree(function, inputs, 14));
}

TEST(CrossAttention, Errors) {
  const Layer layer(odd_spec());
  const CrossAttention& module = *layer.module;
  const at::Tensor x = at::ones({4, 12}, at::kDouble), states = at::ones({6, 10}, at::kDouble);
  const auto two = ops::packed_sequences({0, 2, 4});
  const auto keys = ops::packed_sequences({0, 2, 6});
  EXPECT_THAT(message_of<ShapeError>([&] { module.context({}, keys); }),
              HasSubstr("key_value_states = undefined"));
  EXPECT_THAT(message_of<ShapeError>([&] { module.forward(x, two, {}); }),
              HasSubstr("key_value_states = undefined"));
  EXPECT_THAT(message_of<ShapeError>([&] {
                module.context(at::ones({6, 12}, at::kDouble), keys);
              }),
              HasSubstr("key_value_states has 2 axes, the last of 12, allowed [tokens, 10]"));
  EXPECT_THAT(message_of<ShapeError>([&] { module.context(states, two); }), HasSubstr("cu_q"));
  const CrossContext context = module.context(states, keys);
  EXPECT_THAT(message_of<ShapeError>([&] {
                module.forward(x, ops::packed_sequences({0, 4}), context);
              }),
              HasSubstr("cu_k has 3 boundaries"));
  EXPECT_THAT(message_of<ShapeError>([&] {
                module.forward(at::ones({4, 10}, at::kDouble), two, context);
              }),
              HasSubstr("hidden_states"));
}

}  // namespace
}  // namespace headway::nn
