// The MoE module: gates, capacity, losses and loads in a record, the expert bias.
#include "headway/nn/moe.h"

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>
#include <gtest/gtest.h>

#include "headway/nn/transformer.h"

#include "tests/support/tensors.h"
#include "tests/support/tiny_specs.h"

namespace headway::nn {
namespace {

constexpr const char* kMlp = "layers.0.mlp.";

spec::ModelSpec with_moe(const spec::MoeSpec& moe) {
  spec::ModelSpec spec = test::tiny_llama(1);
  spec.layers[0].mlp = moe;
  return spec;
}

spec::MoeSpec plain(int64_t experts = 4, int64_t top_k = 2) {
  spec::MoeSpec moe;
  moe.num_experts = experts;
  moe.top_k = top_k;
  moe.intermediate_size = 6;
  return moe;
}

struct Module {
  explicit Module(const spec::MoeSpec& moe, at::ScalarType dtype = at::kDouble)
      : spec(with_moe(moe)), parameters(spec, dtype, at::kCPU) {
    parameters.initialise(3);
    module.emplace(moe, ParameterScope(parameters, kMlp));
  }
  at::Tensor run(const at::Tensor& x, RoutingRecord* record = nullptr) const {
    const auto sequences = ops::equal_sequences(1, x.size(0));
    return module->forward(MlpInput{x, sequences, record});
  }
  at::Tensor parameter(const std::string& name) { return parameters.get(kMlp + name).detach(); }

  spec::ModelSpec spec;
  Parameters parameters;
  std::optional<Moe> module;
};

at::Tensor input(int64_t tokens, at::ScalarType dtype = at::kDouble) {
  return test::normal_tensor({tokens, 16}, dtype, 5);
}

TEST(Moe, ZeroGateHalvesTheSharedExpertExactly) {
  spec::MoeSpec moe = plain();
  moe.shared = spec::SharedExpertSpec{8, false, {}};
  Module open(moe);
  moe.shared->gate = true;
  Module gated(moe);
  gated.parameter("shared.gate.weight").zero_();
  Module none(plain());
  const at::Tensor x = input(7);
  const at::Tensor routed = none.run(x);  // segments draw on their own, so these weights are equal
  EXPECT_TRUE(test::close(gated.run(x) - routed, (open.run(x) - routed) * 0.5, 1e-14));
}

TEST(Moe, WeightOnTheInputIsLinearOnlyThere) {
  spec::MoeSpec moe = plain(3, 1);
  moe.router.normalize = false;
  Module after(moe);
  moe.weight_input = true;
  Module before(moe);
  const at::Tensor x = input(5);
  EXPECT_FALSE(test::close(before.run(x), after.run(x), 1e-3));
  // A certain router gives the weight 1, with which both are the same.
  for (Module* module : {&after, &before}) {
    module->parameter("router.weight").zero_();
    module->parameter("router.weight")[1].copy_(x.sum(0).sign() * 1e6);
  }
  const at::Tensor one = at::ones({1, 16}, at::kDouble) * x.sum(0).sign();
  EXPECT_TRUE(test::close(before.run(one), after.run(one), 1e-14));
}

TEST(Moe, FullExpertsDropTokensAndTheRecordSaysSo) {
  spec::MoeSpec moe = plain(4, 1);
  moe.router.normalize = false;
  moe.capacity = spec::CapacitySpec{1.0, spec::DropPolicy::kPosition};
  Module module(moe);
  module.parameter("router.weight").zero_();  // ties: everybody wants expert 0
  RoutingRecord record;
  const at::Tensor y = module.run(input(8), &record);
  EXPECT_TRUE(y.narrow(0, 2, 6).eq(0).all().item<bool>());
  EXPECT_FALSE(y.narrow(0, 0, 2).eq(0).any().item<bool>());
  const LayerRouting& layer = record.layers().at(0);
  EXPECT_EQ(layer.dropped, 6);
  EXPECT_EQ(layer.choices, 8);
  EXPECT_TRUE(at::equal(layer.load_E, at::tensor({2., 0., 0., 0.}, at::kDouble)));
  EXPECT_NEAR(layer.entropy / double(layer.tokens), 1.0, 1e-12);
}

TEST(Moe, LossesReachTheRouterAlone) {
  spec::MoeSpec moe = plain();
  moe.router.losses = {{spec::BalanceKind::kBatch, 0.5}, {spec::BalanceKind::kGlobal, 0.25}};
  moe.router.z_loss = 0.1;
  Module module(moe);
  RoutingRecord record;
  module.run(input(9), &record);
  const at::Tensor loss = record.take_loss();
  ASSERT_TRUE(loss.defined());
  EXPECT_FALSE(record.take_loss().defined());
  loss.backward();
  EXPECT_GT(module.parameters.get(std::string(kMlp) + "router.weight").grad().norm().item<double>(),
            0.0);
  EXPECT_FALSE(module.parameters.get(std::string(kMlp) + "experts.up.weight").grad().defined());
}

TEST(Moe, GlobalLossAveragesCountsOverMicroBatches) {
  spec::MoeSpec moe = plain();
  moe.router.losses = {{spec::BalanceKind::kGlobal, 1.0}};
  Module module(moe);
  const at::Tensor x = input(12);
  RoutingRecord record;
  module.run(x.narrow(0, 0, 6), &record);
  const double first = record.take_loss().item<double>();
  module.run(x.narrow(0, 6, 6), &record);
  const double second = record.take_loss().item<double>();
  RoutingRecord alone;
  module.run(x.narrow(0, 6, 6), &alone);
  EXPECT_NE(alone.take_loss().item<double>(), second);
  RoutingRecord again;
  module.run(x.narrow(0, 0, 6), &again);
  EXPECT_EQ(again.take_loss().item<double>(), first);
  EXPECT_EQ(record.layers().at(0).micro_batches, 2);
}

TEST(Moe, ExpertBiasMovesTowardsBalance) {
  at::Tensor bias = at::tensor({0.5, 0.0, -1.0}, at::kFloat);
  update_expert_bias(bias, at::tensor({6., 1., 2.}, at::kDouble), 0.125);
  EXPECT_TRUE(at::equal(bias, at::tensor({0.375, 0.125, -0.875}, at::kFloat)));
  update_expert_bias(bias, at::tensor({2., 2., 2.}, at::kDouble), 0.125);
  EXPECT_TRUE(at::equal(bias, at::tensor({0.375, 0.125, -0.875}, at::kFloat)));
}

TEST(Moe, ExpertBiasStaysWideIn16Bits) {
  spec::MoeSpec moe = plain();
  moe.router.score = spec::RouterScore::kSigmoid;
  moe.router.expert_bias = true;
  Module module(moe, at::kBFloat16);
  EXPECT_EQ(module.parameter("router.expert_bias").scalar_type(), at::kFloat);
  EXPECT_EQ(module.parameter("router.weight").scalar_type(), at::kBFloat16);
  std::string bias = kMlp;
  bias += "router.expert_bias";
  EXPECT_FALSE(module.parameters.get(bias).requires_grad());
  EXPECT_EQ(module.run(input(3, at::kBFloat16)).scalar_type(), at::kBFloat16);
}

TEST(Moe, TransformerFillsARecordLayerByLayer) {
  Transformer model(test::tiny_moe(), at::kDouble);
  model.parameters().initialise(1);
  RoutingRecord record;
  ForwardOptions options;
  options.context.routing = &record;
  model.forward(at::arange(6), ops::equal_sequences(2, 3), options);
  ASSERT_EQ(record.layers().size(), 3u);
  EXPECT_EQ(record.layers().at(2).load_E.sum().item<double>(), 18.0);
  EXPECT_FALSE(record.layers().contains(1));
}

}  // namespace
}  // namespace headway::nn
