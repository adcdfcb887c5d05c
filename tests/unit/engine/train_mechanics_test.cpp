// Recompute and delayed gradients of a run: what they become, and that a step keeps its bits.
// Not for: the mechanisms (tests/unit/nn).
#include "headway/engine/train_mechanics.h"

#include <ATen/Functions.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "headway/base/error.h"
#include "headway/engine/optimizer.h"
#include "headway/engine/train_step.h"

#include "tests/support/tensors.h"
#include "tests/unit/engine/tiny_model.h"

namespace headway::engine {
namespace {

config::RunConfig run_of(const std::vector<std::string>& overrides) {
  return config::parse_run(kTinyModel, "tiny", overrides, {.needs_training = false});
}

TEST(TrainMechanics, FieldsBecomeAPlan) {
  const TrainMechanics none = train_mechanics(run_of({}), 4);
  EXPECT_EQ(none.recompute.chunk_end(0, 4), 0);
  EXPECT_FALSE(none.recompute.core_attention || none.recompute.norms || none.recompute.mlp);
  EXPECT_FALSE(none.delay_wgrad);
  const nn::RecomputePlan parts =
      train_mechanics(run_of({"train.recompute={granularity: selective, modules: [layernorm, "
                              "core_attn]}"}),
                      4)
          .recompute;
  EXPECT_TRUE(parts.core_attention);
  EXPECT_TRUE(parts.norms);
  EXPECT_FALSE(parts.mlp);
  const nn::RecomputePlan uniform =
      train_mechanics(run_of({"train.recompute={granularity: full, method: uniform, "
                              "num_layers: 3}"}),
                      4)
          .recompute;
  EXPECT_EQ(uniform.chunk_end(0, 4), 3);
  EXPECT_EQ(uniform.chunk_end(3, 4), 4);
  const nn::RecomputePlan block =
      train_mechanics(run_of({"train.recompute={granularity: full, method: block, num_layers: 2}"}),
                      4)
          .recompute;
  EXPECT_EQ(block.chunk_end(0, 4), 1);
  EXPECT_EQ(block.chunk_end(1, 4), 2);
  EXPECT_EQ(block.chunk_end(2, 4), 2);
}

config::RunConfig megatron_run(const Json& more, const config::TrainConfig& train = {}) {
  config::RunConfig run;
  run.train = train;
  run.model.megatron = {
      {"num_layers", 4}, {"hidden_size", 8}, {"num_attention_heads", 2}, {"vocab_size", 5}};
  if (!more.is_null()) run.model.megatron.update(more);  // {} is null
  return run;
}

TEST(TrainMechanics, MegatronNamesMeanTheSame) {
  const TrainMechanics full = train_mechanics(megatron_run({{"recompute_granularity", "full"},
                                                            {"recompute_method", "uniform"},
                                                            {"recompute_num_layers", 2},
                                                            {"delay_wgrad_compute", true}}),
                                              4);
  EXPECT_EQ(full.recompute.chunk_end(0, 4), 2);
  EXPECT_TRUE(full.delay_wgrad);
  const TrainMechanics parts =
      train_mechanics(megatron_run({{"recompute_granularity", "selective"},
                                    {"recompute_modules", {"layernorm", "mlp"}}}),
                      4);
  EXPECT_TRUE(parts.recompute.norms);
  EXPECT_TRUE(parts.recompute.mlp);
  EXPECT_FALSE(parts.recompute.core_attention);
  EXPECT_TRUE(train_mechanics(megatron_run({{"recompute_granularity", "selective"}}), 4)
                  .recompute.core_attention);
  config::TrainConfig train;
  train.recompute.granularity = config::RecomputeGranularity::kSelective;
  EXPECT_TRUE(train_mechanics(megatron_run({}, train), 4).recompute.core_attention);
  try {
    train_mechanics(megatron_run({{"recompute_granularity", "full"},
                                  {"recompute_method", "uniform"},
                                  {"recompute_num_layers", 2}},
                                 train),
                    4);
    FAIL();
  } catch (const ConfigError& error) {
    EXPECT_THAT(error.what(), testing::HasSubstr("contradicts "
                                                 "model.megatron.recompute_granularity = full"));
  }
}

std::vector<at::Tensor> weights_after(const std::vector<std::string>& overrides,
                                      at::ScalarType dtype) {
  const config::RunConfig run = run_of(overrides);
  nn::Transformer model = tiny_model(dtype);
  apply(train_mechanics(run, 2), model);
  Optimizer optimizer(model.parameters(), run.train.optimizer);
  for (int64_t step = 1; step <= 3; ++step) {
    optimizer.zero_grad();
    StepOptions options;
    options.z_loss = 1e-3;
    options.after_backward = [&] { optimizer.collect(); };
    accumulate_gradients(model, {tiny_batch(2, 9, 0), tiny_batch(1, 9, 20), tiny_batch(3, 9, 40)},
                         options);
    optimizer.clip();
    optimizer.step(step, 1e-3);
  }
  return model.parameters().tensors();
}

TEST(TrainMechanics, StepsKeepTheirBits) {
  for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16}) {
    const auto want = weights_after({}, dtype);
    for (const std::vector<std::string>& overrides :
         {std::vector<std::string>{"train.delay_wgrad=true"},
          {"train.recompute={granularity: selective, modules: [core_attn, layernorm, mlp]}"},
          {"train.recompute={granularity: full, method: uniform, num_layers: 2}",
           "train.delay_wgrad=true"}}) {
      SCOPED_TRACE(overrides.front());
      const auto got = weights_after(overrides, dtype);
      for (size_t i = 0; i < want.size(); ++i) EXPECT_TRUE(test::same_bits(got[i], want[i])) << i;
    }
  }
}

}  // namespace
}  // namespace headway::engine
