// A model in training: weights, optimizer, data position; one step at a time, saved and restored.
// Not for: the output folder, logging or stopping (train_run.h).
#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <vector>

#include "headway/data/train_loader.h"
#include "headway/engine/logit_watch.h"
#include "headway/engine/metrics.h"
#include "headway/engine/optimizer.h"
#include "headway/engine/run_setup.h"
#include "headway/engine/train_step.h"
#include "headway/engine/trainer_state.h"

namespace headway::engine {

class Trainer {
 public:
  /// Starts from the weights of `run.model` and seeds libtorch's generators with train.seed.
  explicit Trainer(PreparedRun run);

  /// The next optimizer step. Fills step, loss, lr and grad_norm; a step that throws changes
  /// nothing. Errors: NonFiniteError naming the layer or the gradient.
  StepMetrics step();
  /// Loss on the held-out samples; nothing where the run has none. Errors: NonFiniteError.
  std::optional<StepLoss> evaluate();

  /// Fills a checkpoint folder: the model, its tokenizer, and `trainer/`.
  void save(const std::filesystem::path& folder) const;
  /// Puts everything back as it was when `folder` was saved: the steps that follow are
  /// bit-identical to those of a trainer that was never stopped. Errors: CheckpointError.
  void restore(const std::filesystem::path& folder, const TrainerState& state);

  /// Looks at every forward pass from now on, and at the parameters of all processes after every
  /// step. Errors of step() and evaluate() then also: InternalError (nn/realtime_checks.h,
  /// engine/replica_check.h).
  void enable_checks();
  /// What they have looked at; null without them.
  const nn::RealtimeChecks* checks() const { return checks_.get(); }

  std::int64_t steps_done() const { return steps_done_; }
  nn::Transformer& model() { return run_.model; }
  const nn::Transformer& model() const { return run_.model; }
  const data::TrainLoader& loader() const { return loader_; }
  /// Model FLOPs of one step: forward and backward, three times the forward.
  double step_flops() const { return step_flops_; }

 private:
  std::int64_t micro_batch_samples() const;
  std::vector<data::Batch> next_batches();
  StepMetrics take_step();
  void check_processes() const;
  void save_model(const std::filesystem::path& folder) const;

  PreparedRun run_;
  Optimizer optimizer_;
  data::TrainLoader loader_;
  LogitWatch logits_;
  std::unique_ptr<nn::RealtimeChecks> checks_;
  double step_flops_ = 0.0;
  std::int64_t steps_done_ = 0;
};

}  // namespace headway::engine
