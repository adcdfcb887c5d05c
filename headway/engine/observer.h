// What a training run tells whoever watches it. The library itself never prints.
// Not for: metrics.jsonl (metrics.h), which is written with or without an observer.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

#include "headway/engine/metrics.h"

namespace headway::engine {

/// Facts of a run that do not change while it runs.
struct TrainFacts {
  std::int64_t first_step = 0;  // steps already done when it starts (> 0: resumed)
  std::int64_t steps = 0;       // total
  std::int64_t batch_tokens = 0;
  std::int64_t num_parameters = 0;
  std::string dtype;         // float32, bfloat16, float64
  std::string dtype_reason;  // why `auto` chose it; empty when the run file says it
  double peak_flops = 0.0;   // measured GEMM peak of this machine in that dtype, FLOP/s
};

/// Called from the training thread, between steps; must not keep references.
class TrainObserver {
 public:
  virtual ~TrainObserver() = default;
  virtual void on_start(const TrainFacts&) {}
  /// Every step, whatever train.log_every says.
  virtual void on_step(const StepMetrics&) {}
  /// An evaluation of the weights after `step` steps (0 = before training).
  virtual void on_evaluation(std::int64_t /*step*/, double /*val_loss*/) {}
  virtual void on_checkpoint(std::int64_t /*step*/, const std::filesystem::path& /*folder*/) {}
};

}  // namespace headway::engine
