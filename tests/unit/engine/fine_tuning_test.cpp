// Fine-tuning: adapters on conversations, what they leave frozen, stops, merging, what is refused.
// Not for: agreement with PEFT itself, which the format tests of io stand for.
#include <cmath>
#include <fstream>

#include <ATen/Functions.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "headway/base/error.h"
#include "headway/config/load.h"
#include "headway/engine/loaded_model.h"
#include "headway/engine/run_setup.h"
#include "headway/engine/train_run.h"
#include "headway/engine/train_step.h"
#include "headway/engine/trainer.h"

#include "tests/support/temp_folder.h"
#include "tests/unit/engine/tiny_model.h"

namespace headway::engine {
namespace {

using testing::HasSubstr;
using testing_support::message_of;
using testing_support::read_bytes;
namespace fs = std::filesystem;

constexpr const char* kTemplate =
    "{% for m in messages %}{{ '?' if m.role == 'user' else '!' }}{{ m.content }}\n{% endfor %}"
    "{{ '!' if add_generation_prompt }}";

class StopAfter : public TrainObserver {
 public:
  explicit StopAfter(int64_t step) : step_(step) {}
  void on_step(const StepMetrics& metrics) override { stop = stop || metrics.step == step_; }
  std::atomic<bool> stop{false};

 private:
  int64_t step_;
};

class FineTuning : public testing::Test {
 protected:
  void SetUp() override {
    std::string chats;
    for (int i = 0; i < 40; ++i) {
      chats += R"({"messages": [{"role": "user", "content": "say )" + std::to_string(i % 7) +
               R"("}, {"role": "assistant", "content": ")" + std::string(3 + i % 4, 'a') +
               "\"}]}\n";
    }
    folder_.write("chats.jsonl", chats);
    folder_.write("chat.jinja", kTemplate);
    folder_.write("text.txt", std::string(400, 'a'));
    train(config::parse_run(std::string(kTinyModel) + "data: {train: [" + path("text.txt") +
                                "], sequence_length: 16}\n"
                                "train: {steps: 1, batch_tokens: 64, dtype: float32}\noutput: " +
                                path("base") + "\n",
                            "run.yaml", {}));
  }

  std::string path(const std::string& name) const { return (folder_ / name).string(); }
  fs::path base() const { return folder_ / "base/checkpoints/step-1"; }

  config::RunConfig run(const std::string& output, std::vector<std::string> overrides = {}) const {
    return config::parse_run(
        "model: {hf: " + base().string() +
            ", adapter: {rank: 3, alpha: 6, targets: [q_proj, v_proj, g_proj, down_proj]}}\n"
            "data: {train: [" +
            path("chats.jsonl") +
            "], sequence_length: 32, chat: {chat_template: " + path("chat.jinja") +
            "}}\n"
            "train: {steps: 4, batch_tokens: 128, micro_batch_tokens: 64, dtype: float32, "
            "optimizer: {lr: 3e-2}, checkpoint_every: 2, evaluate_every: 0}\noutput: " +
            path(output) + "\n",
        "run.yaml", overrides);
  }

  static TrainOutcome train(const config::RunConfig& config, bool resume = false,
                            StopAfter* stop = nullptr) {
    TrainOptions options;
    options.resume = resume;
    options.observer = stop;
    if (stop != nullptr) options.stop = &stop->stop;
    return train_run(config, options);
  }

  static double held_out(const LoadedModel& loaded, const PreparedRun& run) {
    return held_out_loss(*loaded.model, *run.dataset.validation, 2).loss;
  }

  testing_support::TempFolder folder_;
};

TEST_F(FineTuning, OnlyThePairsLearn) {
  PreparedRun prepared = prepare_run(run("a"), {});
  nn::Transformer& model = prepared.model;
  const data::Batch batch = data::make_sequential_batch(prepared.dataset.train, 0, 2);
  EXPECT_LT(batch.label_count, batch.num_tokens());
  EXPECT_GT(batch.label_count, 0);
  accumulate_gradients(model, {batch});
  size_t trained = 0;
  for (size_t i = 0; i < model.parameters().specs().size(); ++i) {
    const std::string& name = model.parameters().specs()[i].name;
    const bool is_pair = name.find(".adapter.") != std::string::npos;
    EXPECT_EQ(model.parameters().tensors()[i].grad().defined(), is_pair) << name;
    trained += is_pair ? 1 : 0;
  }
  EXPECT_EQ(trained, 8u);  // a and b of qkv and of down in two layers
  Optimizer optimizer(model.parameters(), prepared.config.train.optimizer);
  EXPECT_EQ(optimizer.state().size(), 2 * trained);
}

TEST_F(FineTuning, ACheckpointIsAnAdapterThatStandsForTheTunedModel) {
  for (const std::string kind : {"lora", "dora"}) {
    const config::RunConfig config =
        run(kind, {"model.adapter.kind=" + kind, "train.steps=24", "train.schedule.warmup_steps=2",
                   "train.optimizer.lr=1e-2"});
    const TrainOutcome outcome = train(config);
    EXPECT_TRUE(fs::exists(outcome.checkpoint / "adapter_config.json"));
    EXPECT_FALSE(fs::exists(outcome.checkpoint / "model.safetensors"));
    EXPECT_EQ(read_bytes(outcome.checkpoint / "chat_template.jinja"), kTemplate);
    const LoadedModel merged = load_model(folder_ / kind, at::kFloat, at::kCPU);
    const LoadedModel beside =
        load_model(base(), at::kFloat, at::kCPU, folder_ / kind / "checkpoints/step-24");
    const LoadedModel plain = load_model(base(), at::kFloat, at::kCPU);
    EXPECT_NE(merged.tokenizer.tokenizer, nullptr);
    const PreparedRun prepared = prepare_run(run("unused"), {});
    EXPECT_NEAR(held_out(merged, prepared), *outcome.val_loss, 1e-5);
    EXPECT_NEAR(held_out(beside, prepared), *outcome.val_loss, 1e-5);
    // Sixteen channels and a frozen tied head leave little to gain; that it differs is the point.
    EXPECT_GT(std::abs(*outcome.val_loss - held_out(plain, prepared)), 1e-2);
  }
}

TEST_F(FineTuning, StoppedAndResumedEqualsNeverStoppedBitForBit) {
  const std::vector<std::vector<std::string>> cases = {
      {}, {"model.adapter.kind=dora", "train.dtype=bfloat16"}};
  for (const std::vector<std::string>& more : cases) {
    const std::string tag = std::to_string(more.size());
    train(run("whole" + tag, more));
    StopAfter stop(3);
    train(run("cut" + tag, more), false, &stop);
    train(run("cut" + tag, more), true);
    for (const char* name : {"adapter_model.safetensors", "trainer/optimizer.safetensors"}) {
      const std::string whole = read_bytes(folder_ / ("whole" + tag) / "checkpoints/step-4" / name);
      EXPECT_FALSE(whole.empty());
      EXPECT_TRUE(whole == read_bytes(folder_ / ("cut" + tag) / "checkpoints/step-4" / name))
          << name;
    }
  }
}

TEST_F(FineTuning, GoesOnFromAnAdapter) {
  const TrainOutcome first = train(run("first"));
  const std::string from = "model.adapter.from=" + first.checkpoint.string();
  Trainer trainer(prepare_run(run("second", {from}), {}));
  EXPECT_EQ(trainer.evaluate()->loss, *first.val_loss);
  EXPECT_THAT(message_of<ConfigError>([&] {
                prepare_run(run("third", {from, "model.adapter.rank=4"}), {});
              }),
              HasSubstr("model.adapter.rank = 4: allowed 3, as "));
  EXPECT_THAT(message_of<CheckpointError>([&] {
                prepare_run(run("third", {from, "model.adapter.targets=[q_proj]"}), {});
              }),
              HasSubstr("allowed the 4 of model.adapter.targets"));
}

TEST_F(FineTuning, AllWeightsLearnFromConversationsWithoutAnAdapter) {
  const config::RunConfig config = run("full", {"model.adapter=none"});
  const TrainOutcome outcome = train(config);
  EXPECT_TRUE(fs::exists(outcome.checkpoint / "model.safetensors"));
  EXPECT_EQ(read_bytes(outcome.checkpoint / "chat_template.jinja"), kTemplate);
}

TEST_F(FineTuning, RefusesWhatContradicts) {
  const auto problem = [&](const std::string& override) {
    return message_of<ConfigError>([&] { run("x", {override}); });
  };
  EXPECT_THAT(problem("data.cross_document=true"), HasSubstr("false with data.chat"));
  EXPECT_THAT(problem("train.qk_clip={threshold: 1}"), HasSubstr("not allowed with model.adapter"));
  EXPECT_THAT(problem("train.delay_wgrad=true"), HasSubstr("train.delay_wgrad = true"));
  EXPECT_THAT(problem("model.hf=null"), HasSubstr("model.adapter: not allowed without hf"));
  const TrainOutcome tuned = train(run("tuned"));
  EXPECT_THAT(message_of<ConfigError>(
                  [&] { prepare_run(run("y", {"model.hf=" + tuned.checkpoint.string()}), {}); }),
              HasSubstr("allowed a model beside model.adapter"));
}

}  // namespace
}  // namespace headway::engine
