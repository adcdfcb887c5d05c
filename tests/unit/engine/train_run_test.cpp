// Whole runs of a tiny model: what they write, how they resume, what they refuse.
#include "headway/engine/train_run.h"

#include <fstream>
#include <sstream>

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>

#include "headway/base/error.h"
#include "headway/base/logging.h"
#include "headway/config/load.h"
#include "headway/engine/checkpoint_store.h"
#include "headway/engine/loaded_model.h"

#include "tests/support/temp_folder.h"
#include "tests/unit/engine/tiny_model.h"

namespace headway::engine {
namespace {

namespace fs = std::filesystem;

constexpr std::int64_t kSteps = 6;

std::string read_all(const fs::path& path) {
  std::ostringstream out;
  out << std::ifstream(path, std::ios::binary).rdbuf();
  return out.str();
}

std::vector<Json> metrics_of(const fs::path& run) {
  std::vector<Json> lines;
  std::ifstream in(run / "metrics.jsonl");
  for (std::string line; std::getline(in, line);) lines.push_back(Json::parse(line));
  return lines;
}

/// Sets the stop flag after a given step, and keeps what it was told.
class Watcher : public TrainObserver {
 public:
  explicit Watcher(std::int64_t stop_after = -1) : stop_after_(stop_after) {}
  void on_start(const TrainFacts& facts) override { facts_ = facts; }
  void on_step(const StepMetrics& metrics) override {
    ++steps_;
    if (metrics.step == stop_after_) stop_ = true;
  }
  void on_checkpoint(std::int64_t step, const fs::path&) override { saved_.push_back(step); }

  std::int64_t stop_after_;
  std::atomic<bool> stop_{false};
  TrainFacts facts_;
  int steps_ = 0;
  std::vector<std::int64_t> saved_;
};

class TrainRun : public testing::Test {
 protected:
  void SetUp() override {
    std::ofstream text(folder_.path() / "text.txt");
    for (int i = 0; i < 400; ++i)
      text << "int f" << i % 17 << "(int x) { return x + " << i << "; }\n";
  }

  fs::path path(const std::string& name) const { return folder_.path() / name; }

  config::RunConfig run(const std::string& output, std::vector<std::string> overrides = {}) const {
    const std::string text =
        std::string(kTinyModel) + "data: {train: [" + path("text.txt").string() +
        "], sequence_length: 16}\n" +
        "train: {steps: 6, batch_tokens: 96, micro_batch_tokens: 32, dtype: float32, "
        "optimizer: {lr: 1e-2}, schedule: {warmup_steps: 2}, checkpoint_every: 2, "
        "evaluate_every: 4, z_loss: 1e-4}\noutput: " +
        path(output).string() + "\n";
    return config::parse_run(text, "run.yaml", overrides);
  }

  TrainOutcome train(const config::RunConfig& config, bool resume = false,
                     Watcher* watcher = nullptr) const {
    TrainOptions options;
    options.resume = resume;
    options.observer = watcher;
    if (watcher != nullptr) options.stop = &watcher->stop_;
    return train_run(config, options);
  }

  void expect_equal_checkpoints(const fs::path& a, const fs::path& b) const {
    for (const char* name : {"model.safetensors", "config.json", "trainer/optimizer.safetensors"}) {
      ASSERT_FALSE(read_all(a / name).empty()) << a / name;
      EXPECT_TRUE(read_all(a / name) == read_all(b / name)) << name << " differ in " << b;
    }
    EXPECT_EQ(Json::parse(read_all(a / "trainer/state.json"))["data"],
              Json::parse(read_all(b / "trainer/state.json"))["data"]);
  }

  testing_support::TempFolder folder_;
};

TEST_F(TrainRun, WritesConfigMetricsAndCheckpointsThatAreModels) {
  Watcher watcher;
  const TrainOutcome outcome = train(run("a"), false, &watcher);
  EXPECT_EQ(outcome.end, TrainEnd::kFinished);
  EXPECT_EQ(outcome.step, kSteps);
  EXPECT_EQ(outcome.checkpoint, path("a") / "checkpoints" / "step-6");
  EXPECT_EQ(watcher.saved_, (std::vector<std::int64_t>{2, 4, 6}));
  EXPECT_EQ(watcher.facts_.dtype, "float32");

  const std::vector<Json> lines = metrics_of(path("a"));
  ASSERT_EQ(lines.size(), 7u);
  for (std::int64_t i = 0; i <= kSteps; ++i) {
    const Json& line = lines[static_cast<std::size_t>(i)];
    EXPECT_EQ(line["step"], i);
    EXPECT_EQ(line.contains("val_loss"), i == 0 || i == 4 || i == 6) << line;
    EXPECT_GT(line["peak_bytes"], 1 << 20);
    EXPECT_EQ(line["loss"].is_null(), i == 0);
    if (i == 0) continue;
    for (const char* key : {"loss", "lr", "grad_norm", "tokens_per_s", "share_of_peak"}) {
      EXPECT_GT(line[key].get<double>(), 0) << key;
    }
    EXPECT_LT(line["share_of_peak"].get<double>(), 1.1);
  }
  EXPECT_NEAR(lines[0]["val_loss"].get<double>(), std::log(256), 0.3);
  EXPECT_LT(lines[6]["val_loss"].get<double>(), lines[0]["val_loss"].get<double>() - 0.1);
  EXPECT_EQ(*outcome.val_loss, lines[6]["val_loss"].get<double>());
  EXPECT_DOUBLE_EQ(lines[1]["lr"].get<double>(), 5e-3);

  EXPECT_EQ(config::load_run((path("a") / "config.yaml").string(), {}), run("a"));
  const LoadedModel loaded = load_model(path("a"), at::kFloat, at::kCPU);
  EXPECT_EQ(loaded.checkpoint.folder, outcome.checkpoint);
  EXPECT_NE(loaded.tokenizer.tokenizer, nullptr);
  EXPECT_EQ(fs::read_symlink(path("a") / "latest"), fs::path("checkpoints/step-6"));
}

/// Evaluations and stops leave what is clipped as it is, and metrics say what was measured.
TEST_F(TrainRun, QkClipHoldsAcrossStopsAndEvaluations) {
  const std::vector<std::string> clip = {"train.qk_clip.threshold=0.05", "train.optimizer.lr=0.05"};
  train(run("whole", clip));
  std::vector<std::string> often = clip;
  often.push_back("train.evaluate_every=1");
  Watcher watcher(3);
  train(run("stopped", often), false, &watcher);
  train(run("stopped", often), true);
  expect_equal_checkpoints(path("whole") / "checkpoints/step-6",
                           path("stopped") / "checkpoints/step-6");
  train(run("free", {"train.log_max_attention_logit=true", "train.optimizer.lr=0.05"}));
  train(run("plain", {"train.optimizer.lr=0.05"}));
  expect_equal_checkpoints(path("free") / "checkpoints/step-6",
                           path("plain") / "checkpoints/step-6");
  const auto clipped = metrics_of(path("whole")), free = metrics_of(path("free"));
  EXPECT_FALSE(clipped[0].contains("max_attention_logit"));
  EXPECT_FALSE(metrics_of(path("plain"))[6].contains("max_attention_logit"));
  EXPECT_EQ(clipped[1]["max_attention_logit"], free[1]["max_attention_logit"]);
  EXPECT_LT(clipped[6]["max_attention_logit"].get<double>(),
            free[6]["max_attention_logit"].get<double>());
}

TEST_F(TrainRun, MemorySettingsAndChecksLeaveTheCheckpointAlone) {
  train(run("plain"));
  const fs::path want = path("plain") / "checkpoints" / "step-6";
  train(run("lean", {"train.recompute={granularity: full, method: uniform, num_layers: 2}",
                     "train.delay_wgrad=true"}));
  expect_equal_checkpoints(want, path("lean") / "checkpoints" / "step-6");
  const TrainOptions options{.realtime_checks = true};
  std::string logged;
  set_log_sink([&](LogLevel, std::string_view text) { logged += text; });
  train_run(run("checked", {"train.recompute=selective"}), options);
  set_log_sink({});
  expect_equal_checkpoints(want, path("checked") / "checkpoints" / "step-6");
  for (const Json& line : metrics_of(path("plain"))) EXPECT_FALSE(line.contains("checks_s"));
  for (const Json& line : metrics_of(path("checked"))) {
    EXPECT_EQ(line.contains("checks_s"), line["step"] > 0) << line;
  }
  EXPECT_NE(logged.find(" looks, nothing wrong, "), std::string::npos) << logged;
  Watcher watcher(3);  // a run may be resumed with other settings of this kind
  train(run("mixed", {"train.recompute=selective"}), false, &watcher);
  train(run("mixed", {"train.delay_wgrad=true"}), true);
  expect_equal_checkpoints(want, path("mixed") / "checkpoints" / "step-6");
}

TEST_F(TrainRun, StoppedAnywhereAndResumedEqualsNeverStoppedBitForBit) {
  train(run("whole"));
  const auto expected = metrics_of(path("whole"));
  for (std::int64_t stop = 1; stop < kSteps; ++stop) {
    const std::string name = "stop" + std::to_string(stop);
    Watcher watcher(stop);
    const TrainOutcome stopped = train(run(name), false, &watcher);
    EXPECT_EQ(stopped.end, TrainEnd::kStopped);
    EXPECT_EQ(stopped.step, stop);
    EXPECT_TRUE(io::is_complete(stopped.checkpoint));
    Watcher rest;
    EXPECT_EQ(train(run(name), true, &rest).end, TrainEnd::kFinished);
    EXPECT_EQ(rest.steps_, kSteps - stop);
    expect_equal_checkpoints(path("whole") / "checkpoints" / "step-6",
                             path(name) / "checkpoints" / "step-6");
    const auto got = metrics_of(path(name));
    ASSERT_EQ(got.size(), expected.size());
    for (std::size_t i = 0; i < got.size(); ++i) {
      for (const char* key : {"step", "loss", "lr", "grad_norm"}) {
        EXPECT_EQ(got[i][key], expected[i][key]) << stop << " " << key;
      }
      EXPECT_EQ(got[i].value("val_loss", Json()), expected[i].value("val_loss", Json()));
    }
  }
}

TEST_F(TrainRun, Bfloat16KeepsItsMastersAcrossAStop) {
  const std::vector<std::string> bf16 = {"train.dtype=bfloat16"};
  train(run("whole", bf16));
  Watcher watcher(3);
  train(run("b", bf16), false, &watcher);
  train(run("b", bf16), true);
  expect_equal_checkpoints(path("whole") / "checkpoints" / "step-6",
                           path("b") / "checkpoints" / "step-6");
}

TEST_F(TrainRun, DropoutDrawsTheSameAfterAStop) {
  const std::vector<std::string> dropout = {"model.blocks.local.attention.dropout=0.3",
                                            "train.micro_batch_tokens=16"};
  train(run("whole", dropout));
  train(run("without", {"train.micro_batch_tokens=16"}));
  EXPECT_NE(metrics_of(path("whole"))[1]["loss"], metrics_of(path("without"))[1]["loss"]);
  EXPECT_EQ(metrics_of(path("whole"))[0]["val_loss"], metrics_of(path("without"))[0]["val_loss"])
      << "nothing is dropped in an evaluation";
  Watcher watcher(3);
  train(run("b", dropout), false, &watcher);
  train(run("b", dropout), true);
  expect_equal_checkpoints(path("whole") / "checkpoints" / "step-6",
                           path("b") / "checkpoints" / "step-6");
}

TEST_F(TrainRun, LosingTheNewestCheckpointGoesBackToTheOneBeforeAndCutsMetrics) {
  train(run("whole"));
  train(run("b"));
  fs::remove_all(path("b") / "checkpoints" / "step-6");
  std::ofstream(path("b") / "checkpoints" / "step-4" / "model.safetensors") << "cut short";
  std::ofstream(path("b") / "metrics.jsonl", std::ios::app) << "{\"step\":7,\"lo";
  fs::create_directories(path("b") / "checkpoints" / ".step-8.tmp");
  Watcher watcher(3);
  train(run("b"), true, &watcher);
  EXPECT_EQ(watcher.facts_.first_step, 2);
  EXPECT_EQ(metrics_of(path("b")).size(), 4u);  // 0, 1, 2 kept; 3 new
  EXPECT_FALSE(fs::exists(path("b") / "checkpoints" / ".step-8.tmp"));
  train(run("b"), true);
  expect_equal_checkpoints(path("whole") / "checkpoints" / "step-6",
                           path("b") / "checkpoints" / "step-6");
}

TEST_F(TrainRun, RetentionNeverDropsTheNewest) {
  train(run("a", {"train.checkpoint_every=1", "train.keep_checkpoints=2"}));
  EXPECT_EQ(CheckpointStore(path("a")).complete_steps(), (std::vector<std::int64_t>{5, 6}));
}

TEST_F(TrainRun, AFinishedRunHasNothingToDoAndALongerOneGoesOn) {
  train(run("a"));
  const std::string before = read_all(path("a") / "metrics.jsonl");
  const TrainOutcome again = train(run("a"), true);
  EXPECT_EQ(again.end, TrainEnd::kAlreadyFinished);
  EXPECT_EQ(again.step, kSteps);
  EXPECT_EQ(read_all(path("a") / "metrics.jsonl"), before);
  const TrainOutcome longer = train(run("a", {"train.steps=8"}), true);
  EXPECT_EQ(longer.step, 8);
  EXPECT_EQ(metrics_of(path("a")).size(), 9u);
  EXPECT_EQ(config::load_run((path("a") / "config.yaml").string(), {}).train.steps, 8);
}

TEST_F(TrainRun, ResumingWithoutACheckpointStartsAtTheBeginning) {
  EXPECT_EQ(train(run("new"), true).step, kSteps);
  fs::create_directories(path("b"));
  std::ofstream(path("b") / "metrics.jsonl") << "{\"step\":0}\n{\"step\":1}\n";
  EXPECT_EQ(train(run("b"), true).step, kSteps);
  EXPECT_EQ(metrics_of(path("b")).size(), 7u);
}

TEST_F(TrainRun, AnOutputThatIsNotEmptyIsLeftAlone) {
  fs::create_directories(path("a"));
  std::ofstream(path("a") / "notes.txt") << "mine";
  try {
    train(run("a"));
    FAIL();
  } catch (const ConfigError& error) {
    EXPECT_NE(std::string(error.what()).find("not empty"), std::string::npos) << error.what();
    EXPECT_NE(std::string(error.what()).find("--resume"), std::string::npos);
  }
  EXPECT_FALSE(fs::exists(path("a") / "config.yaml"));
  EXPECT_THROW(train(run("text.txt")), ConfigError);
}

TEST_F(TrainRun, NothingIsWrittenWhenTheChecksFail) {
  EXPECT_THROW(train(run("a", {"data.sequence_length=8192", "train.batch_tokens=16384",
                               "train.micro_batch_tokens=8192", "model.max_positions=100000",
                               "data.train=[" + path("short.txt").string() + "]"})),
               CheckpointError);  // no such file
  std::ofstream(path("short.txt")) << "short";
  EXPECT_THROW(train(run("a", {"data.train=[" + path("short.txt").string() + "]"})), ConfigError);
  EXPECT_THROW(train(run("a", {"model.tokenizer=" + path("absent").string()})), Error);
  EXPECT_THROW(train(run("a", {"model.vocab_size=100"})), ConfigError);
  EXPECT_FALSE(fs::exists(path("a")));
}

TEST_F(TrainRun, AChangedFieldIsRefusedByNameAndChangesNothing) {
  Watcher watcher(2);
  train(run("a"), false, &watcher);
  const std::string before = read_all(path("a") / "config.yaml");
  try {
    train(run("a", {"train.seed=2", "train.optimizer.lr=1e-3", "train.steps=9"}), true);
    FAIL();
  } catch (const ConfigError& error) {
    EXPECT_EQ(error.problems().size(), 2u);
    EXPECT_NE(std::string(error.what()).find("train.seed: 1 -> 2"), std::string::npos);
    EXPECT_NE(std::string(error.what()).find("train.optimizer.lr: 0.01 -> 0.001"),
              std::string::npos)
        << error.what();
  }
  EXPECT_EQ(read_all(path("a") / "config.yaml"), before);
}

TEST_F(TrainRun, ChangedDataIsRefused) {
  Watcher watcher(2);
  train(run("a"), false, &watcher);
  std::ofstream(path("text.txt"), std::ios::app) << "one more line of text";
  EXPECT_THROW(train(run("a"), true), CheckpointError);
}

TEST_F(TrainRun, ANonFiniteStepStopsTheRunAndKeepsTheCheckpointBefore) {
  try {
    train(run("a", {"train.optimizer.lr=1e38", "train.optimizer.clip=none",
                    "train.checkpoint_every=1", "train.schedule.warmup_steps=0"}));
    FAIL();
  } catch (const NonFiniteError& error) {
    EXPECT_EQ(error.exit_code(), ExitCode::kNonFinite);
    const std::string text = error.what();
    EXPECT_TRUE(text.find("layers.") != std::string::npos ||
                text.find("embedding") != std::string::npos)
        << text;
  }
  EXPECT_TRUE(CheckpointStore(path("a")).newest());
}

TEST_F(TrainRun, AFullDiskEndsTheRunWithTheOlderCheckpointIntact) {
  Watcher watcher(2);
  train(run("a"), false, &watcher);
  const std::string before = read_all(path("a") / "checkpoints/step-2/model.safetensors");
  // Files larger than the limit fail to be written, as on a full disk.
  ::signal(SIGXFSZ, SIG_IGN);
  rlimit old_limit{};
  ::getrlimit(RLIMIT_FSIZE, &old_limit);
  const rlimit small{8192, old_limit.rlim_max};
  ::setrlimit(RLIMIT_FSIZE, &small);
  EXPECT_THROW(train(run("a"), true), CheckpointError);
  ::setrlimit(RLIMIT_FSIZE, &old_limit);
  EXPECT_EQ(CheckpointStore(path("a")).complete_steps(), (std::vector<std::int64_t>{2}));
  EXPECT_EQ(read_all(path("a") / "checkpoints/step-2/model.safetensors"), before);
  EXPECT_EQ(train(run("a"), true).step, kSteps);
}

TEST_F(TrainRun, AModelFolderIsTrainedOn) {
  train(run("a"));
  const std::string text =
      "model: {hf: " + (path("a") / "checkpoints/step-6").string() + "}\n" + "data: {train: [" +
      path("text.txt").string() + "], sequence_length: 16}\n" +
      "train: {steps: 2, batch_tokens: 96, micro_batch_tokens: 32, dtype: float32}\n"
      "output: " +
      path("tuned").string() + "\n";
  train(config::parse_run(text, "tune.yaml", {}));
  const auto before = metrics_of(path("a"));
  const auto after = metrics_of(path("tuned"));
  EXPECT_EQ(after.front()["val_loss"], before.back()["val_loss"]);
}

TEST_F(TrainRun, AStopWhileTextIsEncodedLeavesNothing) {
  Watcher watcher;
  watcher.stop_ = true;
  const TrainOutcome outcome = train(run("a"), false, &watcher);
  EXPECT_EQ(outcome.end, TrainEnd::kStopped);
  EXPECT_TRUE(outcome.checkpoint.empty());
  EXPECT_FALSE(fs::exists(path("a")));
}

TEST_F(TrainRun, TwoProcessesCannotTrainIntoOneFolder) {
  class Intruder : public TrainObserver {
   public:
    explicit Intruder(config::RunConfig config) : config_(std::move(config)) {}
    void on_start(const TrainFacts&) override {
      EXPECT_THROW(train_run(config_, {.resume = true}), CheckpointError);
      asked_ = true;
    }
    config::RunConfig config_;
    bool asked_ = false;
  };
  Intruder intruder(run("a"));
  TrainOptions options;
  options.observer = &intruder;
  EXPECT_EQ(train_run(run("a"), options).step, kSteps);
  EXPECT_TRUE(intruder.asked_);
}

}  // namespace
}  // namespace headway::engine
