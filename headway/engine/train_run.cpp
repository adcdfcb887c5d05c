// The only training loop.
// Not for: anything that could be a method of Trainer, RunFolder or CheckpointStore.
#include "headway/engine/train_run.h"

#include <chrono>

#include <fmt/format.h>

#include "headway/base/logging.h"
#include "headway/config/load.h"
#include "headway/engine/checkpoint_store.h"
#include "headway/engine/machine.h"
#include "headway/engine/resume_rules.h"
#include "headway/engine/run_folder.h"
#include "headway/engine/run_setup.h"
#include "headway/engine/trainer.h"
#include "headway/engine/trainer_state.h"
#include "headway/io/dtype.h"
#include "headway/spec/megatron_training.h"

namespace headway::engine {
namespace {

using Clock = std::chrono::steady_clock;

/// Leaves the encoding of text when a stop is requested; caught in train_run.
struct StopWhileEncoding {};

bool stop_requested(const TrainOptions& options) {
  return options.stop != nullptr && options.stop->load();
}

/// The loop and what it needs around the trainer.
class Session {
 public:
  Session(const config::TrainConfig& config, const TrainOptions& options, Trainer& trainer,
          const CheckpointStore& store, MetricsFile& metrics, at::Device device)
      : config_(config),
        options_(options),
        observer_(options.observer == nullptr ? silent_ : *options.observer),
        trainer_(trainer),
        store_(store),
        metrics_(metrics),
        device_(device) {}

  void start(const TrainFacts& facts, bool restored);
  TrainOutcome loop();
  /// What --checks looked at and what that cost; nothing without them.
  void report_checks() const;

 private:
  static bool is_due(std::int64_t step, std::int64_t every) {
    return every > 0 && step % every == 0;
  }

  StepMetrics timed_step();
  void evaluate(StepMetrics& metrics);
  void save();
  TrainOutcome outcome(TrainEnd end) const;

  const config::TrainConfig& config_;
  const TrainOptions& options_;
  TrainObserver silent_;
  TrainObserver& observer_;
  Trainer& trainer_;
  const CheckpointStore& store_;
  MetricsFile& metrics_;
  at::Device device_;
  double peak_flops_ = 0.0;
  double step_seconds_ = 0.0;
  double check_seconds_ = 0.0;
  std::optional<std::int64_t> saved_step_;
  std::optional<double> val_loss_;
};

void Session::start(const TrainFacts& facts, bool restored) {
  peak_flops_ = facts.peak_flops;
  observer_.on_start(facts);
  if (restored) {
    saved_step_ = trainer_.steps_done();
    return;
  }
  StepMetrics before;
  evaluate(before);
  before.peak_bytes = peak_memory_bytes(device_);
  metrics_.append(before);
}

StepMetrics Session::timed_step() {
  const Clock::time_point start = Clock::now();
  StepMetrics metrics = trainer_.step();
  const double seconds = std::chrono::duration<double>(Clock::now() - start).count();
  step_seconds_ += seconds;
  check_seconds_ += metrics.checks_s.value_or(0.0);
  metrics.tokens_per_s = static_cast<double>(metrics.tokens) / seconds;
  metrics.share_of_peak = trainer_.step_flops() / seconds / peak_flops_;
  metrics.peak_bytes = peak_memory_bytes(device_);
  return metrics;
}

void Session::evaluate(StepMetrics& metrics) {
  const std::optional<StepLoss> held_out = trainer_.evaluate();
  if (!held_out) return;
  metrics.val_loss = val_loss_ = held_out->loss;
  metrics.val_mtp_loss = held_out->mtp;
  observer_.on_evaluation(metrics.step, *val_loss_);
}

void Session::save() {
  const std::int64_t step = trainer_.steps_done();
  if (saved_step_ == step) return;
  metrics_.sync();
  store_.save(step, [this](const std::filesystem::path& folder) { trainer_.save(folder); });
  saved_step_ = step;
  store_.keep_newest(config_.keep_checkpoints);
  observer_.on_checkpoint(step, store_.folder(step));
}

TrainOutcome Session::outcome(TrainEnd end) const {
  return {end, trainer_.steps_done(), store_.folder(trainer_.steps_done()), val_loss_};
}

TrainOutcome Session::loop() {
  while (trainer_.steps_done() < config_.steps) {
    if (stop_requested(options_)) {
      save();
      return outcome(TrainEnd::kStopped);
    }
    val_loss_.reset();
    StepMetrics metrics = timed_step();
    observer_.on_step(metrics);
    const bool is_last = metrics.step == config_.steps;
    if (is_last || is_due(metrics.step, config_.evaluate_every)) evaluate(metrics);
    if (is_last || metrics.val_loss || is_due(metrics.step, config_.log_every)) {
      metrics_.append(metrics);
    }
    if (is_last || is_due(metrics.step, config_.checkpoint_every)) save();
  }
  return outcome(TrainEnd::kFinished);
}

void Session::report_checks() const {
  const nn::RealtimeChecks* checks = trainer_.checks();
  if (checks == nullptr || step_seconds_ == 0.0) return;
  log(LogLevel::kInfo,
      fmt::format(
          "[train] checks = realtime: {} looks, nothing wrong, {:.2f} s of {:.2f} s ({:.1f} "
          "%) of all steps",
          checks->count(), check_seconds_, step_seconds_, 100.0 * check_seconds_ / step_seconds_));
}

/// prepare_run, or nothing if a stop was requested while text was encoded (then nothing is left).
std::optional<PreparedRun> prepare_unless_stopped(const config::RunConfig& run, RunSetup setup,
                                                  const TrainOptions& options) {
  setup.tokenize_progress = [&options](const data::TokenizeProgress& progress) {
    if (stop_requested(options)) throw StopWhileEncoding();
    if (options.tokenize_progress) options.tokenize_progress(progress);
  };
  try {
    return prepare_run(run, setup);
  } catch (const StopWhileEncoding&) {
    return std::nullopt;
  }
}

/// The state of the newest checkpoint, checked against the run; nothing if there is none.
std::optional<TrainerState> find_state(const config::RunConfig& run, const CheckpointStore& store) {
  const auto newest = store.newest();
  if (!newest) return std::nullopt;
  TrainerState state = read_trainer_state(store.folder(*newest) / "trainer");
  check_resumable(state.config, config::to_json(run));
  return state;
}

TrainFacts facts_of(const Trainer& trainer, const config::TrainConfig& config,
                    const DtypeDecision& decision, at::Device device) {
  TrainFacts facts;
  facts.first_step = trainer.steps_done();
  facts.steps = config.steps;
  facts.batch_tokens = config.batch_tokens;
  for (const at::Tensor& tensor : trainer.model().parameters().tensors()) {
    facts.num_parameters += tensor.numel();
  }
  facts.dtype = io::torch_dtype_name(decision.dtype);
  facts.dtype_reason = decision.reason;
  facts.peak_flops = measure_peak_flops(decision.dtype, device);
  return facts;
}

}  // namespace

TrainOutcome train_run(const config::RunConfig& run, const TrainOptions& options) {
  RunFolder folder(run.output, options.resume);
  const at::Device device = resolve_device(run.train.device);
  const CheckpointStore store(folder.path());
  if (folder.exists()) folder.open();  // before anything in it is read
  const std::optional<TrainerState> state = find_state(run, store);
  if (state && state->step >= run.train.steps) {
    store.repair();
    return {TrainEnd::kAlreadyFinished, state->step, store.folder(state->step), std::nullopt};
  }
  DtypeDecision decision = resolve_dtype(run.train.dtype, device);
  if (state && state->dtype != decision.dtype) decision = {state->dtype, "as before resuming"};
  auto prepared =
      prepare_unless_stopped(run, {device, decision.dtype, !state.has_value(), {}}, options);
  if (!prepared) return {TrainEnd::kStopped, state ? state->step : 0, {}, std::nullopt};
  Trainer trainer(*std::move(prepared));
  if (state) trainer.restore(store.folder(state->step), *state);
  if (options.realtime_checks || spec::megatron_test_mode(run.model.megatron)) {
    trainer.enable_checks();
  }

  folder.open();
  store.repair();
  folder.write_config(config::to_yaml(run));
  MetricsFile metrics(folder.path() / "metrics.jsonl", state ? state->step : -1);
  const TrainFacts facts = facts_of(trainer, run.train, decision, device);
  log(LogLevel::kInfo, fmt::format("[train] dtype = {}{}", facts.dtype,
                                   facts.dtype_reason.empty() ? "" : ": " + facts.dtype_reason));
  Session session(run.train, options, trainer, store, metrics, device);
  session.start(facts, state.has_value());
  const TrainOutcome outcome = session.loop();
  session.report_checks();
  return outcome;
}

}  // namespace headway::engine
