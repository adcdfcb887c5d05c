// Learning rate of every step.
// Not for: anything that depends on the loss.
#pragma once

#include <cstdint>

#include "headway/config/run_config.h"

namespace headway::engine {

/// Learning rate of `step` (counted from 1, at most train.steps).
///   warm-up   lr·step/W for step <= W
///   then, with u from 0 to 1 over the decay steps and f = final_fraction:
///   cosine    lr·(f + (1-f)·(1 + cos πu)/2)      linear  lr·(1 - (1-f)·u)
///   wsd       lr until the decay begins, then linear; constant: lr
/// Decay covers all steps after warm-up (cosine, linear), the last tenth (wsd), or decay_steps;
/// after it: lr·f. With index_warmup its own lr first, and all of this over the steps after it.
/// Test: tests/unit/engine/schedule_test.cpp
double learning_rate(const config::TrainConfig& train, int64_t step);

}  // namespace headway::engine
