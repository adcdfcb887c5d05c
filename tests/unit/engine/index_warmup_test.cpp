// The warm-up of indexers: its steps and learning rates, what learns in it, and its metrics.
#include "headway/engine/index_warmup.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "headway/base/error.h"
#include "headway/engine/schedule.h"
#include "headway/engine/train_step.h"

#include "tests/support/message_of.h"
#include "tests/support/tensors.h"
#include "tests/support/tiny_specs.h"

namespace headway::engine {
namespace {

config::TrainConfig warming(int64_t steps) {
  config::TrainConfig train;
  train.steps = 100;
  train.optimizer.lr = 2.0;
  train.schedule.kind = config::ScheduleKind::kLinear;
  train.schedule.warmup_steps = 4;
  train.schedule.final_fraction = 0.0;
  train.index_warmup = config::IndexWarmupConfig{steps, 0.25};
  return train;
}

spec::ModelSpec learning_model() {
  spec::ModelSpec spec = test::tiny_sparse();
  for (spec::LayerSpec& layer : spec.layers) {
    auto& mixer = std::get<spec::LatentAttentionSpec>(layer.mixer);
    if (mixer.indexer) mixer.indexer->loss = 0.5;
  }
  return spec;
}

data::Batch batch_of(int64_t tokens) {
  data::Batch batch;
  batch.input_ids = test::integer_tensor({tokens}, 0, 23, 1);
  batch.labels = test::integer_tensor({tokens}, 0, 23, 2);
  batch.cu_seqlens = {0, tokens / 3, tokens};
  batch.label_count = tokens;
  return batch;
}

TEST(IndexWarmup, HasItsOwnRateAndTheScheduleFollowsIt) {
  const config::TrainConfig train = warming(20);
  EXPECT_TRUE(in_index_warmup(train, 1));
  EXPECT_TRUE(in_index_warmup(train, 20));
  EXPECT_FALSE(in_index_warmup(train, 21));
  EXPECT_EQ(learning_rate(train, 1), 0.25);
  EXPECT_EQ(learning_rate(train, 20), 0.25);
  EXPECT_DOUBLE_EQ(learning_rate(train, 21), 0.5);
  EXPECT_DOUBLE_EQ(learning_rate(train, 24), 2.0);
  EXPECT_DOUBLE_EQ(learning_rate(train, 62), 1.0);
  EXPECT_DOUBLE_EQ(learning_rate(train, 100), 0.0);
  EXPECT_FALSE(in_index_warmup({}, 1));
}

TEST(IndexWarmup, NeedsAnIndexerThatLearns) {
  config::RunConfig run;
  check_index_warmup(run, test::tiny_sparse());
  run.train = warming(5);
  const auto refusal = [&](const spec::ModelSpec& model) {
    return testing_support::message_of<ConfigError>([&] { check_index_warmup(run, model); });
  };
  EXPECT_THAT(refusal(test::tiny_sparse()),
              testing::HasSubstr("train.index_warmup = {steps: 5}: allowed with a layer whose"));
  check_index_warmup(run, learning_model());
  run.model.adapter.emplace();
  EXPECT_THAT(refusal(learning_model()), testing::HasSubstr("not allowed with model.adapter"));
}

TEST(IndexWarmup, OnlyIndexersGetGradients) {
  nn::Transformer model(learning_model(), at::kDouble);
  model.parameters().initialise(3);
  StepOptions options;
  options.index_warmup = true;
  double frozen_loss = 0.0;
  {
    const OnlyIndexersLearn frozen(model.parameters());
    const StepLoss step = accumulate_gradients(model, {batch_of(24), batch_of(12)}, options);
    EXPECT_GT(step.index, 0.0);
    EXPECT_NEAR(step.auxiliary, 0.0, 1e-15);
    frozen_loss = step.loss;
  }
  for (size_t i = 0; i < model.parameters().specs().size(); ++i) {
    const std::string& name = model.parameters().specs()[i].name;
    const bool indexer = name.find(".indexer.") != std::string::npos;
    EXPECT_EQ(model.parameters().tensors()[i].grad().defined(), indexer) << name;
    EXPECT_TRUE(model.parameters().tensors()[i].requires_grad()) << name;
  }
  // Attention over all keys: another loss than that over chosen ones.
  const StepLoss joint = accumulate_gradients(model, {batch_of(24), batch_of(12)});
  EXPECT_GT(std::abs(joint.loss - frozen_loss), 1e-9);
  EXPECT_GT(joint.index, 0.0);
  EXPECT_GT(model.parameters().get("layers.0.mixer.kv_up.weight").grad().abs().max().item<double>(),
            0.0);
}

/// The loss of a layer is a mean over tokens: how a step is cut does not matter.
TEST(IndexWarmup, MicroBatchesAddUp) {
  const auto gradient = [](const std::vector<data::Batch>& batches) {
    nn::Transformer model(learning_model(), at::kDouble);
    model.parameters().initialise(3);
    accumulate_gradients(model, batches);
    return model.parameters().get("layers.0.mixer.indexer.q.weight").grad();
  };
  data::Batch first = batch_of(24), second = first, both = first;
  first.cu_seqlens = second.cu_seqlens = {0, 24};
  both.input_ids = at::cat({first.input_ids, second.input_ids});
  both.labels = at::cat({first.labels, second.labels});
  both.cu_seqlens = {0, 24, 48};
  both.label_count = 48;
  EXPECT_TRUE(test::close(gradient({first, second}), gradient({both}), 1e-10));
}

}  // namespace
}  // namespace headway::engine
