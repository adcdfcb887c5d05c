// A whole training run from a checked run file to its last checkpoint: what `headway train` does.
// Not for: the arithmetic of a step (trainer.h) or showing progress (observer.h).
#pragma once

#include <atomic>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>

#include "headway/config/run_config.h"
#include "headway/data/tokenize.h"
#include "headway/engine/observer.h"

namespace headway::engine {

struct TrainOptions {
  bool resume = false;                       // go on with what the output folder holds, if anything
  bool realtime_checks = false;              // look at every forward pass (docs/memory.md)
  TrainObserver* observer = nullptr;         // may be null
  const std::atomic<bool>* stop = nullptr;   // when true: save after the current step and return
  data::ProgressCallback tokenize_progress;  // may be empty
};

enum class TrainEnd {
  kFinished,
  kStopped,          // by `stop`; saved
  kAlreadyFinished,  // a resumed run had nothing left to do
};

struct TrainOutcome {
  TrainEnd end = TrainEnd::kFinished;
  std::int64_t step = 0;             // optimizer steps done in all
  std::filesystem::path checkpoint;  // of that step; empty if stopped while text was encoded
  std::optional<double> val_loss;    // of that step, where it was evaluated
};

/// Writes config.yaml, metrics.jsonl, checkpoints/step-N and the link `latest` into run.output. The
/// folder appears only when config, tokenizer and data have been checked against each other.
/// Resuming goes on from the newest complete checkpoint, or from the start without one; the result
/// is bit-identical to a run that was never interrupted. Errors: ConfigError (output not empty, a
/// field changed since the checkpoint, values that do not fit each other); CheckpointError (files,
/// full disk: the checkpoints before stay as they are); UnsupportedError (device, tokenizer);
/// NonFiniteError (loss or gradient). Test: tests/unit/engine/train_run_test.cpp
TrainOutcome train_run(const config::RunConfig& run, const TrainOptions& options);

}  // namespace headway::engine
