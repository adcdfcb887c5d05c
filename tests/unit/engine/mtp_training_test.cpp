// Training with multi-token prediction: losses by depth, cuts into micro-batches, metrics,
// resuming.
#include <fstream>
#include <sstream>

#include <ATen/Functions.h>
#include <gtest/gtest.h>

#include "headway/engine/train_run.h"
#include "headway/engine/train_step.h"
#include "headway/nn/mtp_loss.h"

#include "tests/support/temp_folder.h"
#include "tests/unit/engine/tiny_model.h"

namespace headway::engine {
namespace {

namespace fs = std::filesystem;

const std::vector<std::string> kMtp = {"model.mtp.depths=2", "model.mtp.block=local",
                                       "model.mtp.loss_scale=0.5"};

nn::Transformer mtp_model() {
  const config::RunConfig run =
      config::parse_run(kTinyModel, "tiny", kMtp, {.needs_training = false});
  nn::Transformer model(spec::resolve(run.model, 256), at::kDouble);
  model.parameters().initialise(7);
  return model;
}

TEST(MtpTraining, MicroBatchesOfUnequalLabelCountsEqualOneBatch) {
  nn::Transformer whole = mtp_model(), split = mtp_model();
  const StepLoss one = accumulate_gradients(whole, {tiny_batch(4, 12, 0)});
  const StepLoss two = accumulate_gradients(split, {tiny_batch(1, 12, 0), tiny_batch(3, 12, 12)});
  ASSERT_EQ(one.mtp.size(), 2u);
  for (std::size_t k = 0; k < 2; ++k) {
    EXPECT_NEAR(one.mtp[k], two.mtp[k], 1e-12);
    EXPECT_NEAR(one.mtp[k], std::log(256), 0.5);
  }
  EXPECT_NEAR(one.loss, two.loss, 1e-12);
  for (std::size_t i = 0; i < whole.parameters().tensors().size(); ++i) {
    const at::Tensor& a = whole.parameters().tensors()[i].grad();
    const at::Tensor& b = split.parameters().tensors()[i].grad();
    const std::string& name = whole.parameters().specs()[i].name;
    EXPECT_TRUE(at::allclose(a, b, 1e-10, 1e-13)) << name;
    EXPECT_GT(a.abs().max().item<double>(), 0) << name;
  }
}

/// The loss of the next token is what it is without further depths.
TEST(MtpTraining, NextTokenLossIsApart) {
  nn::Transformer with = mtp_model(), without = tiny_model(at::kDouble);
  const data::Batch batch = tiny_batch(2, 10, 3);
  EXPECT_DOUBLE_EQ(accumulate_gradients(with, {batch}).loss,
                   accumulate_gradients(without, {batch}).loss);
}

std::string read_all(const fs::path& path) {
  std::ostringstream out;
  out << std::ifstream(path, std::ios::binary).rdbuf();
  return out.str();
}

TEST(MtpTraining, RunsReportEveryDepthAndResumeBitForBit) {
  const testing_support::TempFolder folder;
  std::ofstream text(folder.path() / "text.txt");
  for (int i = 0; i < 400; ++i)
    text << "int f" << i % 17 << "(int x) { return x + " << i << "; }\n";
  text.close();
  const auto run = [&](const std::string& output) {
    const std::string document =
        std::string(kTinyModel) + "data: {train: [" + (folder.path() / "text.txt").string() +
        "], sequence_length: 16}\n" +
        "train: {steps: 6, batch_tokens: 96, micro_batch_tokens: 32, dtype: float32, "
        "optimizer: {lr: 1e-2}, schedule: {warmup_steps: 2}, checkpoint_every: 2, "
        "evaluate_every: 3}\noutput: " +
        (folder.path() / output).string() + "\n";
    return config::parse_run(document, "run.yaml", kMtp);
  };
  struct StopAfterThree : TrainObserver {
    void on_step(const StepMetrics& metrics) override { stop = metrics.step == 3; }
    std::atomic<bool> stop{false};
  } watcher;
  train_run(run("whole"), {});
  TrainOptions options;
  options.observer = &watcher;
  options.stop = &watcher.stop;
  EXPECT_EQ(train_run(run("cut"), options).end, TrainEnd::kStopped);
  TrainOptions resume;
  resume.resume = true;
  EXPECT_EQ(train_run(run("cut"), resume).end, TrainEnd::kFinished);
  for (const char* name : {"model.safetensors", "trainer/optimizer.safetensors"}) {
    const std::string whole = read_all(folder.path() / "whole/checkpoints/step-6" / name);
    EXPECT_GT(whole.size(), 1000u);
    EXPECT_TRUE(whole == read_all(folder.path() / "cut/checkpoints/step-6" / name)) << name;
  }
  std::ifstream lines(folder.path() / "cut/metrics.jsonl");
  std::vector<Json> metrics;
  for (std::string line; std::getline(lines, line);) metrics.push_back(Json::parse(line));
  ASSERT_EQ(metrics.size(), 7u);
  EXPECT_EQ(metrics[0]["val_mtp_loss"].size(), 2u);
  EXPECT_FALSE(metrics[0].contains("mtp_loss"));
  EXPECT_EQ(metrics[1]["mtp_loss"].size(), 2u);
  EXPECT_LT(metrics[6]["val_mtp_loss"][1].get<double>(),
            metrics[0]["val_mtp_loss"][1].get<double>() - 0.05);
}

}  // namespace
}  // namespace headway::engine
