// Warm-up, then the fall of the learning rate. Not for: applying it.
#include "headway/engine/schedule.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace headway::engine {
namespace {

struct Decay {
  int64_t after;  // last step before the fall
  int64_t steps;  // its length, at least 1
};

Decay decay_of(const config::TrainConfig& train) {
  const config::ScheduleConfig& schedule = train.schedule;
  const int64_t warm = std::min(schedule.warmup_steps, train.steps);
  if (schedule.kind == config::ScheduleKind::kWsd) {
    const int64_t wanted = schedule.decay_steps.value_or((train.steps + 9) / 10);
    const int64_t after = std::max(warm, train.steps - wanted);
    return {after, std::max<int64_t>(1, train.steps - after)};
  }
  return {warm, std::max<int64_t>(1, schedule.decay_steps.value_or(train.steps - warm))};
}

/// Part of lr that is left at progress u of the fall.
double remaining(config::ScheduleKind kind, double u, double final_fraction) {
  switch (kind) {
    case config::ScheduleKind::kConstant:
      return 1.0;
    case config::ScheduleKind::kCosine:
      return final_fraction + (1.0 - final_fraction) * 0.5 * (1.0 + std::cos(std::numbers::pi * u));
    case config::ScheduleKind::kLinear:
    case config::ScheduleKind::kWsd:
      return 1.0 - (1.0 - final_fraction) * u;
  }
  return 1.0;
}

}  // namespace

double learning_rate(const config::TrainConfig& given, int64_t step) {
  config::TrainConfig train = given;
  if (const auto& frozen = given.index_warmup) {
    if (step <= frozen->steps) return frozen->lr;
    step -= frozen->steps;
    train.steps -= frozen->steps;
  }
  const config::ScheduleConfig& schedule = train.schedule;
  const double lr = train.optimizer.lr;
  if (step <= schedule.warmup_steps)
    return lr * static_cast<double>(step) / static_cast<double>(schedule.warmup_steps);
  const Decay decay = decay_of(train);
  const double u = std::clamp(
      static_cast<double>(step - decay.after) / static_cast<double>(decay.steps), 0.0, 1.0);
  return lr * remaining(schedule.kind, u, schedule.final_fraction);
}

}  // namespace headway::engine
