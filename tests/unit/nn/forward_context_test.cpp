// What one pass may add to the layers' own rules: dropout, masks, biases, positions of three axes,
// and layers that see later tokens.
// Not for: the arithmetic (tests/kernels).
#include <functional>

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "headway/base/error.h"
#include "headway/nn/transformer.h"

#include "tests/support/message_of.h"
#include "tests/support/tiny_specs.h"

namespace headway::nn {
namespace {

using testing_support::message_of;

constexpr int64_t kTokens = 12;

spec::AttentionSpec& attention_of(spec::ModelSpec& model, size_t layer) {
  return std::get<spec::AttentionSpec>(model.layers[layer].mixer);
}

/// Two layers, changed, with weights that depend on the names of the parameters only.
Transformer make(const std::function<void(spec::ModelSpec&)>& change) {
  spec::ModelSpec spec = test::tiny_llama(2);
  change(spec);
  Transformer model(spec, at::kDouble);
  model.parameters().initialise(5);
  return model;
}

at::Tensor run(Transformer& model, const ForwardContext& context = {}) {
  at::NoGradGuard no_grad;
  ForwardOptions options;
  options.context = context;
  const at::Tensor ids = at::arange(kTokens, at::kLong).mul(5).remainder(23);
  return model.forward(ids, ops::packed_sequences({0, 7, kTokens}), options);
}

ForwardContext random(uint64_t seed, uint64_t step, uint64_t micro_batch) {
  ForwardContext context;
  context.random = RandomStream{seed, step, micro_batch};
  return context;
}

double distance(const at::Tensor& a, const at::Tensor& b) {
  return (a - b).abs().max().item<double>();
}

TEST(ForwardContext, DropoutIsOffInEvaluationAndKeyedInTraining) {
  const auto with = [](double p) {
    return [p](spec::ModelSpec& spec) {
      attention_of(spec, 0).dropout = attention_of(spec, 1).dropout = p;
    };
  };
  Transformer dropping = make(with(0.4)), plain = make(with(0.0));
  EXPECT_TRUE(at::equal(run(dropping), run(plain)));
  EXPECT_TRUE(at::equal(run(plain, random(1, 2, 3)), run(plain)));
  const at::Tensor drawn = run(dropping, random(1, 2, 3));
  EXPECT_TRUE(at::equal(drawn, run(dropping, random(1, 2, 3)))) << "a pass replays exactly";
  EXPECT_GT(distance(drawn, run(plain)), 1e-3);
  EXPECT_GT(distance(drawn, run(dropping, random(2, 2, 3))), 1e-3);
  EXPECT_GT(distance(drawn, run(dropping, random(1, 3, 3))), 1e-3);
  EXPECT_GT(distance(drawn, run(dropping, random(1, 2, 4))), 1e-3);
}

TEST(ForwardContext, LayersDrawApart) {
  // Two passes that drop in one layer each cannot agree if layers had one stream, since the layers'
  // weights differ; so compare the draws themselves.
  EXPECT_NE(ops::dropout_key(1, 2, 3, 0), ops::dropout_key(1, 2, 3, 1));
  const auto only = [](size_t layer) {
    return [layer](spec::ModelSpec& spec) { attention_of(spec, layer).dropout = 0.4; };
  };
  Transformer first = make(only(0)), second = make(only(1));
  EXPECT_GT(distance(run(first, random(1, 2, 3)), run(second, random(1, 2, 3))), 1e-3);
}

TEST(ForwardContext, AMaskReachesEveryLayer) {
  Transformer model = make([](auto&) {});
  const at::Tensor plain = run(model);
  ForwardContext context;
  context.attention_mask = at::zeros({2, 1, 1, 7}, at::kBool);
  EXPECT_LT(distance(run(model, context), plain), 1e-12);
  context.attention_mask[1][0][0][0] = true;  // the second document's first token is never seen
  const at::Tensor masked = run(model, context);
  EXPECT_LT(distance(masked.narrow(0, 0, 7), plain.narrow(0, 0, 7)), 1e-12);
  EXPECT_GT(distance(masked.narrow(0, 7, 5), plain.narrow(0, 7, 5)), 1e-3);
}

TEST(ForwardContext, ABiasReachesEveryLayerAndGetsItsGradient) {
  Transformer model = make([](auto&) {});
  ForwardContext context;
  context.attention_bias = at::zeros({1, 4, 7, 7}, at::kDouble).requires_grad_();
  ForwardOptions options;
  options.context = context;
  const at::Tensor ids = at::arange(kTokens, at::kLong).mul(5).remainder(23);
  const auto loss = [&] {
    // Not squares: the final norm fixes their sum.
    return model.forward(ids, ops::packed_sequences({0, 7, kTokens}), options).pow(3).sum();
  };
  loss().backward();
  const at::Tensor grad = options.context.attention_bias.grad();
  constexpr double kStep = 1e-5;
  at::NoGradGuard no_grad;
  at::Tensor element = options.context.attention_bias[0][2][5][3];
  element.fill_(kStep);
  const double up = loss().item<double>();
  element.fill_(-kStep);
  const double down = loss().item<double>();
  EXPECT_GT(std::abs(up - down), 1e-8);
  EXPECT_NEAR(grad[0][2][5][3].item<double>(), (up - down) / (2 * kStep), 1e-7);
}

TEST(ForwardContext, EqualAxesAreOrdinaryPositionsBitForBit) {
  const auto sections = [](bool interleaved) {
    return [interleaved](spec::ModelSpec& spec) {
      for (size_t layer : {0, 1}) {
        attention_of(spec, layer).rope->sections = {1, 1, 1};
        attention_of(spec, layer).rope->sections_interleaved = interleaved;
      }
    };
  };
  Transformer plain = make([](auto&) {}), runs = make(sections(false)),
              turns = make(sections(true));
  const at::Tensor want = run(plain);
  EXPECT_TRUE(at::equal(run(runs), want)) << "text alone needs no positions";
  ForwardContext context;
  context.positions_3T =
      at::tensor({0, 1, 2, 3, 4, 5, 6, 0, 1, 2, 3, 4}, at::kLong).expand({3, -1});
  EXPECT_TRUE(at::equal(run(runs, context), want));
  EXPECT_TRUE(at::equal(run(turns, context), want));
  context.positions_3T = context.positions_3T.clone();
  context.positions_3T[1][3] = 40;
  EXPECT_GT(distance(run(runs, context), want), 1e-6);
}

TEST(ForwardContext, PositionsOfThreeAxesAreChecked) {
  using testing::HasSubstr;
  Transformer plain = make([](auto&) {});
  Transformer model = make([](auto& spec) {
    for (size_t layer : {0, 1}) attention_of(spec, layer).rope->sections = {3, 0, 0};
  });
  ForwardContext context;
  context.positions_3T = at::zeros({3, kTokens}, at::kLong);
  EXPECT_THAT(message_of<ShapeError>([&] { run(plain, context); }),
              HasSubstr("with rope.sections (= none)"));
  context.positions_3T = at::zeros({2, kTokens}, at::kLong);
  EXPECT_THAT(message_of<ShapeError>([&] { run(model, context); }), HasSubstr("int64 [3, 12]"));
  context.positions_3T = at::full({3, kTokens}, -1, at::kLong);
  EXPECT_THAT(message_of<ShapeError>([&] { run(model, context); }), HasSubstr("from -1 to -1"));
  context.positions_3T = at::full({3, kTokens}, int64_t{1} << 40, at::kLong);
  EXPECT_THAT(message_of<ShapeError>([&] { run(model, context); }), HasSubstr("allowed 0 to"));
}

TEST(ForwardContext, LayersWithoutACausalMaskSeeLaterTokens) {
  const auto both = [](std::optional<int64_t> window, std::optional<int64_t> ahead) {
    return [=](spec::ModelSpec& spec) {
      for (size_t layer : {0, 1}) {
        spec::AttentionSpec& attention = attention_of(spec, layer);
        attention.mask = spec::MaskKind::kNone;
        attention.window = window;
        attention.window_ahead = ahead;
      }
    };
  };
  Transformer causal = make([](auto&) {}), open = make(both({}, {})),
              none_ahead = make(both({}, 0)), near = make(both(2, 1));
  EXPECT_TRUE(at::equal(run(causal), run(none_ahead)));
  EXPECT_GT(distance(run(causal), run(open)), 1e-3);
  EXPECT_GT(distance(run(near), run(open)), 1e-3);
  ModelState state = make_state(open.spec());
  ForwardOptions options;
  options.state = &state;
  EXPECT_THAT(message_of<UnsupportedError>([&] {
                open.forward(at::zeros({3}, at::kLong), ops::equal_sequences(1, 3), options);
              }),
              testing::HasSubstr("mask = none: a state holds no keys of later tokens"));
}

}  // namespace
}  // namespace headway::nn
