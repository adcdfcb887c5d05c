// What Megatron arguments say about training itself rather than about the model.
// Not for: the model (megatron.h).
#pragma once

#include "headway/base/json.h"
#include "headway/config/run_config.h"

namespace headway::spec {

/// `train` with recompute_granularity, recompute_modules, recompute_method, recompute_num_layers
/// and delay_wgrad_compute of `arguments` (model.megatron; null changes nothing). Errors:
/// ConfigError where `arguments` and `train` both say something and not the same; those of
/// read_megatron. Test: tests/unit/engine/train_mechanics_test.cpp
config::TrainConfig with_megatron_training(const Json& arguments, const config::TrainConfig& train);

/// Whether `arguments` ask for upstream's test_mode, which is --checks=realtime here.
bool megatron_test_mode(const Json& arguments);

}  // namespace headway::spec
