// How a run spends memory and time on the same numbers: recompute, delayed weight gradients.
// Not for: anything that changes a result.
#pragma once

#include "headway/config/run_config.h"
#include "headway/nn/recompute.h"
#include "headway/nn/transformer.h"

namespace headway::engine {

struct TrainMechanics {
  nn::RecomputePlan recompute;
  bool delay_wgrad = false;
};

/// The plan of a stack of `num_layers` layers.
nn::RecomputePlan recompute_plan(const config::RecomputeConfig& recompute, int64_t num_layers);

/// What `run` asks for, by train.recompute and train.delay_wgrad or by Megatron's names in
/// model.megatron. Errors: ConfigError where they contradict each other.
/// Test: tests/unit/engine/train_mechanics_test.cpp
TrainMechanics train_mechanics(const config::RunConfig& run, int64_t num_layers);

void apply(const TrainMechanics& mechanics, nn::Transformer& model);

}  // namespace headway::engine
