// Watching and clipping attention logits in training: masters and weights, metrics, evaluations,
// resumed runs.
// Not for: the row factors (tests/unit/nn/qk_clip_test.cpp).
#include "headway/engine/logit_watch.h"

#include <cmath>

#include <ATen/Functions.h>
#include <ATen/core/grad_mode.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "headway/base/error.h"
#include "headway/base/logging.h"
#include "headway/engine/run_setup.h"
#include "headway/engine/train_step.h"

#include "tests/support/tensors.h"
#include "tests/unit/engine/tiny_model.h"

namespace headway::engine {
namespace {

config::TrainConfig with_clip(double threshold) {
  config::TrainConfig train;
  train.qk_clip = config::QkClipConfig{threshold, 0.5};
  return train;
}

/// Query and key rows large enough that logits are well above 1.
nn::Transformer loud_model(at::ScalarType type) {
  nn::Transformer model = tiny_model(type);
  const at::NoGradGuard no_grad;
  for (const char* name : {"layers.0.mixer.qkv.weight", "layers.1.mixer.qkv.weight"}) {
    model.parameters().get(name).mul_(60.0);
  }
  return model;
}

double largest_logit(const LogitWatch& watch, nn::Transformer& model) {
  watch.begin(model);
  accumulate_gradients(model, {tiny_batch(2, 12, 0), tiny_batch(2, 12, 24)}, {});
  watch.end(model);
  return *watch.max_logit(model);
}

TEST(LogitWatch, ClipsWeightsUntilNoLogitIsAboveTheThreshold) {
  nn::Transformer model = loud_model(at::kDouble);
  Optimizer optimizer(model.parameters(), {});
  const LogitWatch watch(with_clip(2.0), model);
  const double before = largest_logit(watch, model);
  ASSERT_GT(before, 4.0);
  const at::Tensor values =
      model.parameters().get("layers.0.mixer.qkv.weight").detach().narrow(0, 24, 8).clone();
  watch.clip(model, optimizer);
  EXPECT_TRUE(test::same_bits(
      model.parameters().get("layers.0.mixer.qkv.weight").detach().narrow(0, 24, 8), values));
  // The first layer sees the same inputs as before: its logits are now exactly within bounds. The
  // second sees what the first now gives, so it takes a few rounds.
  for (int round = 0; round < 8; ++round) {
    largest_logit(watch, model);
    watch.clip(model, optimizer);
  }
  EXPECT_LE(largest_logit(watch, model), 2.0 * (1 + 1e-9));
}

TEST(LogitWatch, MastersOfSixteenBitWeightsAreClippedToo) {
  nn::Transformer model = loud_model(at::kBFloat16);
  Optimizer optimizer(model.parameters(), {});
  const LogitWatch watch(with_clip(2.0), model);
  largest_logit(watch, model);
  const std::string name = "layers.0.mixer.qkv.weight";
  const at::Tensor before = optimizer.state().at("master." + name).clone();
  watch.clip(model, optimizer);
  const at::Tensor after = optimizer.state().at("master." + name);
  EXPECT_FALSE(at::equal(before, after));
  const at::Tensor ratio = (after / before).masked_select(before != 0);
  EXPECT_LE(ratio.max().item<double>(), 1.0 + 1e-6);
  EXPECT_TRUE(at::equal(model.parameters().get(name).detach(), after.to(at::kBFloat16)));
}

TEST(LogitWatch, OnlyWhatLiesBetweenBeginAndEndCounts) {
  nn::Transformer model = loud_model(at::kDouble);
  config::TrainConfig train;
  train.log_max_attention_logit = true;
  const LogitWatch watch(train, model);
  const double first = largest_logit(watch, model);
  model.forward(tiny_batch(1, 40, 99).input_ids * 0 + 255, ops::equal_sequences(1, 40));
  EXPECT_EQ(*watch.max_logit(model), first);
  watch.begin(model);
  watch.end(model);
  EXPECT_EQ(*watch.max_logit(model), 0.0);
}

TEST(LogitWatch, LoggingAloneChangesNoWeight) {
  nn::Transformer model = loud_model(at::kDouble);
  Optimizer optimizer(model.parameters(), {});
  config::TrainConfig train;
  train.log_max_attention_logit = true;
  const LogitWatch watch(train, model);
  const at::Tensor before = model.parameters().get("layers.0.mixer.qkv.weight").detach().clone();
  EXPECT_GT(largest_logit(watch, model), 4.0);
  watch.clip(model, optimizer);
  EXPECT_TRUE(
      test::same_bits(model.parameters().get("layers.0.mixer.qkv.weight").detach(), before));
}

TEST(LogitWatch, OffCostsNothingAndSaysNothing) {
  nn::Transformer model = tiny_model(at::kFloat);
  const LogitWatch watch(config::TrainConfig{}, model);
  EXPECT_FALSE(watch.is_on());
  watch.begin(model);
  model.forward(tiny_batch(1, 8, 0).input_ids, ops::equal_sequences(1, 8));
  EXPECT_FALSE(watch.max_logit(model).has_value());
  EXPECT_FALSE(std::get<nn::Attention>(model.blocks()[0].mixer()).max_logit().value().defined());
}

TEST(LogitWatch, ALogitThatIsNotFiniteNamesItsLayer) {
  nn::Transformer model = tiny_model(at::kFloat);
  config::TrainConfig train;
  train.log_max_attention_logit = true;
  const LogitWatch watch(train, model);
  watch.begin(model);
  std::get<nn::Attention>(model.blocks()[1].mixer()).max_logit().set(at::full({4}, NAN));
  try {
    watch.max_logit(model);
    ADD_FAILURE();
  } catch (const NonFiniteError& error) {
    EXPECT_THAT(error.what(), testing::HasSubstr("attention logit = nan"));
    EXPECT_THAT(error.what(), testing::HasSubstr("layer 1"));
  }
}

TEST(LogitWatch, WarnsOnceWhereNormsUndoTheClipping) {
  std::vector<std::string> lines;
  set_log_sink([&](LogLevel level, std::string_view line) {
    if (level == LogLevel::kWarning) lines.emplace_back(line);
  });
  nn::Transformer plain = tiny_model(at::kFloat);
  const LogitWatch quiet(with_clip(100), plain);
  EXPECT_TRUE(lines.empty());
  spec::ModelSpec spec = plain.spec();
  for (spec::LayerSpec& layer : spec.layers) {
    std::get<spec::AttentionSpec>(layer.mixer).q_norm = spec::NormSpec{};
  }
  const nn::Transformer normed(spec);
  const LogitWatch loud(with_clip(100), normed);
  set_log_sink({});
  ASSERT_EQ(lines.size(), 1u);
  EXPECT_THAT(lines[0], testing::HasSubstr("qk_clip"));
}

TEST(LogitWatch, MegatronArgumentsSwitchItOn) {
  config::RunConfig run;
  EXPECT_FALSE(training_of(run).qk_clip.has_value());
  run.model.megatron = {{"num_layers", 1},
                        {"hidden_size", 8},
                        {"num_attention_heads", 2},
                        {"qk_clip", true},
                        {"qk_clip_threshold", 30.0}};
  EXPECT_EQ(training_of(run).qk_clip, (config::QkClipConfig{30.0, 0.5}));
  EXPECT_FALSE(training_of(run).log_max_attention_logit);
  run.train.qk_clip = config::QkClipConfig{30.0, 0.5};
  EXPECT_EQ(training_of(run).qk_clip, run.train.qk_clip);
  run.train.qk_clip->threshold = 40.0;
  try {
    training_of(run);
    ADD_FAILURE();
  } catch (const ConfigError& error) {
    EXPECT_THAT(error.what(), testing::HasSubstr("threshold: 40"));
    EXPECT_THAT(error.what(), testing::HasSubstr("qk_clip_threshold = 30"));
  }
  run = {};
  run.model.megatron = {{"num_layers", 1},
                        {"hidden_size", 8},
                        {"num_attention_heads", 2},
                        {"log_max_attention_logit", true}};
  EXPECT_TRUE(training_of(run).log_max_attention_logit);
}

TEST(LogitWatch, ScalingRowsChecksNamesAndShapes) {
  nn::Transformer model = tiny_model(at::kFloat);
  Optimizer optimizer(model.parameters(), {});
  EXPECT_THROW(optimizer.scale_rows("layers.9.mixer.qkv.weight", at::ones({40})), InternalError);
  EXPECT_THROW(optimizer.scale_rows("layers.0.mixer.qkv.weight", at::ones({3})), ShapeError);
}

}  // namespace
}  // namespace headway::engine
