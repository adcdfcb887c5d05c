// The first steps of training a sparse model, in which only the indexers learn, from attention over
// all keys.
// Not for: the indexers' loss itself (nn/indexer.h).
#pragma once

#include <cstdint>
#include <vector>

#include <ATen/core/Tensor.h>

#include "headway/config/run_config.h"
#include "headway/nn/parameters.h"
#include "headway/spec/model_spec.h"

namespace headway::engine {

/// Whether `step` (from 1) is one of them: a function of the step alone, so a resumed run goes on
/// in the phase it stopped in.
bool in_index_warmup(const config::TrainConfig& train, int64_t step);

/// Whether some layer's indexer has a loss.
bool has_learning_indexer(const spec::ModelSpec& model);

/// Errors: ConfigError for train.index_warmup without a layer whose indexer learns, or beside an
/// adapter, under which an indexer's own weights stay.
void check_index_warmup(const config::RunConfig& run, const spec::ModelSpec& model);

/// While it lives, no parameter but the indexers' takes a gradient, and passes record nothing else.
/// Source: DeepSeek-V3.2 (2025), dense warm-up; spec/variants.md §2.4.
/// Test: tests/unit/engine/index_warmup_test.cpp
class OnlyIndexersLearn {
 public:
  explicit OnlyIndexersLearn(const nn::Parameters& parameters);
  ~OnlyIndexersLearn();
  OnlyIndexersLearn(const OnlyIndexersLearn&) = delete;
  OnlyIndexersLearn& operator=(const OnlyIndexersLearn&) = delete;

 private:
  std::vector<at::Tensor> frozen_;
};

}  // namespace headway::engine
