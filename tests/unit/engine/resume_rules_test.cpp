// Which changes of a run file a resumed run accepts.
#include "headway/engine/resume_rules.h"

#include <gtest/gtest.h>

#include "headway/base/error.h"

namespace headway::engine {
namespace {

const Json kRun = Json::parse(R"({"model": {"hidden_size": 8}, "data": {"train": ["a.txt"]},
    "train": {"steps": 10, "seed": 1, "batch_tokens": 64, "checkpoint_every": 5, "log_every": 1,
              "evaluate_every": 5, "keep_checkpoints": 3, "optimizer": {"lr": 0.1}},
    "output": "runs/a"})");

TEST(ResumeRules, LengthLoggingAndRetentionMayChange) {
  Json now = kRun;
  now["train"]["steps"] = 20;
  now["train"]["checkpoint_every"] = 1;
  now["train"]["evaluate_every"] = 0;
  now["train"]["keep_checkpoints"] = 9;
  now["train"]["log_every"] = 7;
  now["output"] = "runs/b";
  EXPECT_NO_THROW(check_resumable(kRun, now));
}

TEST(ResumeRules, WhatSpendsMemoryAndTimeOnTheSameNumbersMayChange) {
  Json before = kRun;
  before["train"]["recompute"] = {{"granularity", "none"}, {"modules", {"core_attn"}}};
  before["train"]["delay_wgrad"] = false;
  Json now = before;
  now["train"]["recompute"] = {{"granularity", "selective"}, {"modules", {"mlp", "layernorm"}}};
  now["train"]["delay_wgrad"] = true;
  EXPECT_NO_THROW(check_resumable(before, now));
  EXPECT_NO_THROW(check_resumable(kRun, now));
  now["train"]["recomputed"] = 1;
  EXPECT_THROW(check_resumable(before, now), ConfigError);
}

TEST(ResumeRules, WhatDecidesTheWeightsMayNotAndEachFieldIsNamed) {
  Json now = kRun;
  now["model"]["hidden_size"] = 16;
  now["train"]["seed"] = 2;
  now["train"]["steps"] = 20;
  now["train"]["optimizer"]["lr"] = 0.2;
  now["data"]["train"] = Json::array({"b.txt"});
  try {
    check_resumable(kRun, now);
    FAIL();
  } catch (const ConfigError& error) {
    ASSERT_EQ(error.problems().size(), 4u) << error.what();
    EXPECT_TRUE(error.problems()[0].starts_with("model.hidden_size: 8 -> 16: a resumed run"));
    EXPECT_TRUE(error.problems()[1].starts_with("data.train[0]: \"a.txt\" -> \"b.txt\""))
        << error.problems()[1];
    EXPECT_TRUE(error.problems()[2].starts_with("train.seed: 1 -> 2"));
    EXPECT_TRUE(error.problems()[3].starts_with("train.optimizer.lr"));
  }
}

}  // namespace
}  // namespace headway::engine
