// The file metrics.jsonl of a run: one JSON object a line, cut back when a run resumes.
// Not for: showing progress (observer.h) or deciding when to measure (trainer.h).
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace headway::engine {

/// How the routers of a step spread its tokens, one entry a layer with experts.
struct RouterMetrics {
  std::vector<std::int64_t> layers;
  std::vector<double> load;       // of the fullest expert, in units of the mean: 1 = balanced
  std::vector<double> entropy;    // mean entropy of a token's scores over ln E: 1 = undecided
  std::vector<double> drop_rate;  // share of choices that full experts refused
  double auxiliary_loss = 0.0;    // what routers added to the loss
};

/// What is known after a step. Step 0 is the state before training: only `val_loss` and
/// `peak_bytes`; the others are null there.
struct StepMetrics {
  std::int64_t step = 0;
  std::optional<double> loss;           // mean cross-entropy of the step's tokens, in nats
  std::optional<double> lr;             // of this step
  std::optional<double> grad_norm;      // global, before clipping
  std::int64_t tokens = 0;              // of the step; not written
  std::optional<double> tokens_per_s;   // of the step alone, without evaluation and checkpoints
  std::int64_t peak_bytes = 0;          // most memory the process (or the GPU) has held so far
  std::optional<double> share_of_peak;  // model FLOPs of the step per second / measured GEMM peak
  std::optional<double> index_loss;     // what indexers added to the loss; left out without them
  std::optional<double> max_attention_logit;  // of the step, at least 0; left out unless measured
  std::optional<double> checks_s;             // seconds of the step in --checks; left out without
  std::optional<double> val_loss;             // left out where no evaluation ran
  std::vector<double> mtp_loss;      // of every depth of multi-token prediction, without its weight
  std::vector<double> val_mtp_loss;  // the same where an evaluation ran
  // Of a model with a row-sparse table, else left out: rows with averages so far, and the memory of
  // all averages and masters.
  std::optional<std::int64_t> sparse_rows;
  std::optional<std::int64_t> optimizer_bytes;
  std::optional<RouterMetrics> routing;  // left out for a model without routers
};

/// One line, without the newline.
std::string to_json_line(const StepMetrics& metrics);

/// Lines reach the file whole: each is one write at its end.
class MetricsFile {
 public:
  /// Keeps the lines of `path` with step <= `last_step` (none for -1) and drops everything else,
  /// also what a killed run left of a line. Errors: CheckpointError (cannot be read or written).
  MetricsFile(const std::filesystem::path& path, std::int64_t last_step);
  ~MetricsFile();
  MetricsFile(const MetricsFile&) = delete;
  MetricsFile& operator=(const MetricsFile&) = delete;

  void append(const StepMetrics& metrics);
  /// Everything appended is on disk afterwards.
  void sync();

 private:
  [[noreturn]] void fail(const char* action) const;

  std::filesystem::path path_;
  int descriptor_ = -1;
};

}  // namespace headway::engine
