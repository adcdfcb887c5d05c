// Loads of a step become metrics and move expert biases; losses of routers join the step's.
#include "headway/engine/router_balance.h"

#include <ATen/Functions.h>
#include <gtest/gtest.h>

#include "headway/base/json.h"
#include "headway/engine/metrics.h"

#include "tests/support/tiny_specs.h"

namespace headway::engine {
namespace {

data::Batch batch_of(int64_t begin, int64_t tokens) {
  data::Batch batch;
  batch.input_ids = at::arange(begin, begin + tokens).remainder(27);
  batch.labels = at::arange(begin + 1, begin + tokens + 1).remainder(27);
  batch.cu_seqlens = {0, tokens};
  batch.label_count = tokens;
  return batch;
}

spec::ModelSpec spec_with_losses() {
  spec::ModelSpec spec = test::tiny_moe();
  std::get<spec::MoeSpec>(spec.layers[0].mlp).router.losses = {{spec::BalanceKind::kBatch, 0.5}};
  std::get<spec::MoeSpec>(spec.layers[2].mlp).router.z_loss = 0.1;
  return spec;
}

TEST(RouterBalance, StepCollectsLossesAndLoads) {
  nn::Transformer model(spec_with_losses(), at::kDouble);
  model.parameters().initialise(2);
  const StepLoss step = accumulate_gradients(model, {batch_of(0, 8), batch_of(8, 8)});
  EXPECT_GT(step.auxiliary, 0.0);
  const auto metrics = router_metrics(step);
  ASSERT_TRUE(metrics.has_value());
  EXPECT_EQ(metrics->layers, (std::vector<int64_t>{0, 2, 3}));
  EXPECT_EQ(metrics->auxiliary_loss, step.auxiliary);
  for (const double load : metrics->load) EXPECT_GE(load, 1.0);
  for (const double entropy : metrics->entropy) {
    EXPECT_GT(entropy, 0.0);
    EXPECT_LE(entropy, 1.0);
  }
  EXPECT_EQ(metrics->drop_rate, (std::vector<double>{0, 0, 0}));
  StepMetrics line;
  line.routing = metrics;
  const Json json = Json::parse(to_json_line(line));
  EXPECT_EQ(json["router"]["layers"], Json({0, 2, 3}));
  EXPECT_EQ(json["auxiliary_loss"], step.auxiliary);
  line.routing.reset();
  EXPECT_FALSE(Json::parse(to_json_line(line)).contains("router"));
}

TEST(RouterBalance, LossesAddToTheGradientButNotToTheReportedLoss) {
  nn::Transformer with(spec_with_losses(), at::kDouble);
  nn::Transformer without(test::tiny_moe(), at::kDouble);
  with.parameters().initialise(2);
  without.parameters().initialise(2);
  const auto a = accumulate_gradients(with, {batch_of(0, 8)});
  const auto b = accumulate_gradients(without, {batch_of(0, 8)});
  EXPECT_EQ(a.loss, b.loss);
  EXPECT_EQ(b.auxiliary, 0.0);
  const std::string router = "layers.0.mlp.router.weight";
  EXPECT_FALSE(
      at::equal(with.parameters().get(router).grad(), without.parameters().get(router).grad()));
  const std::string head = "head.weight";
  EXPECT_TRUE(at::equal(with.parameters().get(head).grad(), without.parameters().get(head).grad()));
}

TEST(RouterBalance, BiasOfTheLayerThatHasOneMovesByTheRate) {
  nn::Transformer model(spec_with_losses(), at::kDouble);
  model.parameters().initialise(2);
  const StepLoss step = accumulate_gradients(model, {batch_of(0, 8)});
  balance_experts(model, step.routing);
  const at::Tensor bias = model.parameters().get("layers.2.mlp.router.expert_bias").detach();
  const at::Tensor load = step.routing.layers().at(2).load_E;
  EXPECT_TRUE(at::allclose(bias, at::sign(load.mean() - load) * 1e-3));
  EXPECT_FALSE(bias.eq(0).all().item<bool>());
}

}  // namespace
}  // namespace headway::engine
