// Shows a training run on stderr: a bar that redraws itself on a terminal, plain lines elsewhere.
// Not for: metrics.jsonl, which the engine writes.
#pragma once

#include <chrono>
#include <cstdio>
#include <optional>
#include <string>

#include "headway/data/tokenize.h"
#include "headway/engine/observer.h"

namespace headway::cli {

class ConsoleProgress final : public engine::TrainObserver {
 public:
  /// `is_terminal` is usually isatty(fileno(out)). A terminal is redrawn at most 10 times a second;
  /// elsewhere a line comes at the first and last step and every 2 seconds.
  ConsoleProgress(std::FILE* out, bool is_terminal) : out_(out), is_terminal_(is_terminal) {}
  ~ConsoleProgress() override { finish_line(); }

  void on_start(const engine::TrainFacts& facts) override;
  void on_step(const engine::StepMetrics& metrics) override;
  void on_evaluation(std::int64_t step, double val_loss) override;
  void on_checkpoint(std::int64_t step, const std::filesystem::path& folder) override;

  /// For engine::TrainOptions::tokenize_progress.
  void on_tokenize(const data::TokenizeProgress& progress);

  /// Ends a half-drawn bar, so that other text may follow.
  void finish_line();

 private:
  using Clock = std::chrono::steady_clock;

  bool is_due(Clock::duration interval);
  void print_line(const std::string& line);
  void redraw(const std::string& line);
  std::string status(const engine::StepMetrics& metrics) const;

  std::FILE* out_;
  bool is_terminal_;
  engine::TrainFacts facts_;
  std::optional<double> val_loss_;
  Clock::time_point start_;
  Clock::time_point last_drawn_;
  std::size_t drawn_width_ = 0;
};

/// 75 -> "1:15", 3700 -> "1:01:40".
std::string format_duration(double seconds);

}  // namespace headway::cli
