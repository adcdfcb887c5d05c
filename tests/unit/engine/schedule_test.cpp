// The learning rate at the corners of every schedule, and its laws.
#include "headway/engine/schedule.h"

#include <cmath>

#include <gtest/gtest.h>

namespace headway::engine {
namespace {

using config::ScheduleKind;

config::TrainConfig run_of(ScheduleKind kind, int64_t steps, int64_t warmup,
                           std::optional<int64_t> decay = std::nullopt) {
  config::TrainConfig train;
  train.steps = steps;
  train.optimizer.lr = 2.0;
  train.schedule.kind = kind;
  train.schedule.warmup_steps = warmup;
  train.schedule.decay_steps = decay;
  train.schedule.final_fraction = 0.1;
  return train;
}

TEST(Schedule, WarmsUpInEqualStepsFromTheFirstStepOn) {
  for (const auto kind : {ScheduleKind::kCosine, ScheduleKind::kLinear, ScheduleKind::kWsd,
                          ScheduleKind::kConstant}) {
    const auto train = run_of(kind, 100, 4);
    EXPECT_DOUBLE_EQ(learning_rate(train, 1), 0.5);
    EXPECT_DOUBLE_EQ(learning_rate(train, 3), 1.5);
    EXPECT_DOUBLE_EQ(learning_rate(train, 4), 2.0);
    EXPECT_DOUBLE_EQ(learning_rate(run_of(kind, 100, 200), 100), 1.0);
  }
}

TEST(Schedule, CosineFallsToTheFinalFraction) {
  const auto train = run_of(ScheduleKind::kCosine, 110, 10);
  EXPECT_DOUBLE_EQ(learning_rate(train, 60), 2.0 * (0.1 + 0.9 * 0.5));
  EXPECT_DOUBLE_EQ(learning_rate(train, 35), 2.0 * (0.1 + 0.45 * (1 + std::sqrt(0.5))));
  EXPECT_DOUBLE_EQ(learning_rate(train, 110), 0.2);
}

TEST(Schedule, LinearFallsInEqualSteps) {
  const auto train = run_of(ScheduleKind::kLinear, 110, 10);
  EXPECT_DOUBLE_EQ(learning_rate(train, 11), 2.0 * (1 - 0.9 / 100));
  EXPECT_DOUBLE_EQ(learning_rate(train, 60), 2.0 * 0.55);
  EXPECT_DOUBLE_EQ(learning_rate(train, 110), 0.2);
}

TEST(Schedule, GivenDecayStepsEndTheFallEarlyAndItStays) {
  for (const auto kind : {ScheduleKind::kCosine, ScheduleKind::kLinear}) {
    const auto train = run_of(kind, 110, 10, 50);
    EXPECT_DOUBLE_EQ(learning_rate(train, 35), 2.0 * 0.55);
    EXPECT_DOUBLE_EQ(learning_rate(train, 60), 0.2);
    EXPECT_DOUBLE_EQ(learning_rate(train, 61), 0.2);
    EXPECT_DOUBLE_EQ(learning_rate(train, 110), 0.2);
  }
}

TEST(Schedule, WsdStaysAndFallsInItsLastSteps) {
  const auto train = run_of(ScheduleKind::kWsd, 100, 10, 20);
  EXPECT_DOUBLE_EQ(learning_rate(train, 11), 2.0);
  EXPECT_DOUBLE_EQ(learning_rate(train, 80), 2.0);
  EXPECT_DOUBLE_EQ(learning_rate(train, 90), 2.0 * 0.55);
  EXPECT_DOUBLE_EQ(learning_rate(train, 100), 0.2);
  const auto tenth = run_of(ScheduleKind::kWsd, 100, 10);
  EXPECT_DOUBLE_EQ(learning_rate(tenth, 90), 2.0);
  EXPECT_DOUBLE_EQ(learning_rate(tenth, 95), 2.0 * 0.55);
  const auto longer = run_of(ScheduleKind::kWsd, 100, 90, 50);
  EXPECT_DOUBLE_EQ(learning_rate(longer, 90), 2.0);
  EXPECT_DOUBLE_EQ(learning_rate(longer, 100), 0.2);
}

TEST(Schedule, ConstantStays) {
  const auto train = run_of(ScheduleKind::kConstant, 100, 0);
  for (const int64_t step : {1, 50, 100}) EXPECT_DOUBLE_EQ(learning_rate(train, step), 2.0);
}

TEST(Schedule, NeverRisesAfterWarmUpNorLeavesItsRange) {
  for (const auto kind : {ScheduleKind::kCosine, ScheduleKind::kLinear, ScheduleKind::kWsd}) {
    for (const int64_t warmup : {0, 1, 7}) {
      const auto train = run_of(kind, 37, warmup);
      for (int64_t step = 1; step <= train.steps; ++step) {
        const double lr = learning_rate(train, step);
        EXPECT_GT(lr, 0.0);
        EXPECT_LE(lr, 2.0);
        if (step > warmup + 1) {
          EXPECT_LE(lr, learning_rate(train, step - 1)) << step;
        }
      }
      EXPECT_DOUBLE_EQ(learning_rate(train, train.steps), 0.2);
    }
  }
}

}  // namespace
}  // namespace headway::engine
