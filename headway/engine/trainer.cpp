// One step after the other.
// Not for: deciding when to evaluate or save (train_run.cpp).
#include "headway/engine/trainer.h"

#include <cmath>

#include <ATen/Context.h>

#include "headway/base/atomic_file.h"
#include "headway/base/error.h"
#include "headway/config/load.h"
#include "headway/engine/index_warmup.h"
#include "headway/engine/loaded_model.h"
#include "headway/engine/replica_check.h"
#include "headway/engine/router_balance.h"
#include "headway/engine/schedule.h"
#include "headway/spec/cost.h"

namespace headway::engine {
namespace {

std::uint64_t data_seed(const config::RunConfig& run) {
  return static_cast<std::uint64_t>(run.data.shuffle_seed.value_or(run.train.seed));
}

double flops_of_step(const spec::ModelSpec& model, const config::RunConfig& run) {
  spec::CostOptions options;
  options.context = run.data.sequence_length;
  // Forward, gradients of activations, and those of weights where they train.
  const double passes = run.model.adapter ? 2.0 : 3.0;
  return passes * spec::cost(model, options).total.forward_flops() *
         static_cast<double>(run.train.batch_tokens);
}

}  // namespace

Trainer::Trainer(PreparedRun run)
    : run_(std::move(run)),
      optimizer_(run_.model.parameters(), run_.config.train.optimizer),
      loader_(run_.dataset.train, data_seed(run_.config)),
      logits_(training_of(run_.config), run_.model),
      step_flops_(flops_of_step(run_.model.spec(), run_.config)) {
  at::manual_seed(static_cast<std::uint64_t>(run_.config.train.seed));
  apply(run_.mechanics, run_.model);
  run_.model.set_row_sparse_gradients(run_.config.train.optimizer.sparse_rows);
}

std::int64_t Trainer::micro_batch_samples() const {
  const config::TrainConfig& train = run_.config.train;
  return train.micro_batch_tokens.value_or(train.batch_tokens) / run_.config.data.sequence_length;
}

std::vector<data::Batch> Trainer::next_batches() {
  const std::int64_t samples = run_.config.train.batch_tokens / run_.config.data.sequence_length;
  std::vector<data::Batch> batches;
  for (std::int64_t taken = 0; taken < samples; taken += micro_batch_samples()) {
    batches.push_back(loader_.next(micro_batch_samples()));
  }
  return batches;
}

StepMetrics Trainer::step() {
  const Json position = loader_.state();
  try {
    return take_step();
  } catch (...) {
    loader_.restore(position);
    optimizer_.zero_grad();
    logits_.end(run_.model);
    run_.model.drop_dw();
    throw;
  }
}

void Trainer::enable_checks() {
  checks_ = std::make_unique<nn::RealtimeChecks>();
  run_.model.set_checks(checks_.get());
}

void Trainer::check_processes() const {
  std::vector<std::pair<std::string, at::Tensor>> parameters;
  const nn::Parameters& all = run_.model.parameters();
  for (std::size_t i = 0; i < all.specs().size(); ++i) {
    parameters.emplace_back(all.specs()[i].name, all.tensors()[i]);
  }
  check_replicas(parameters, dist::world());
}

StepMetrics Trainer::take_step() {
  const double checked_before = checks_ ? checks_->seconds() : 0.0;
  optimizer_.zero_grad();
  logits_.begin(run_.model);
  StepMetrics metrics;
  metrics.step = steps_done_ + 1;
  StepOptions options;
  options.z_loss = run_.config.train.z_loss;
  options.random = nn::RandomStream{static_cast<std::uint64_t>(run_.config.train.seed),
                                    static_cast<std::uint64_t>(metrics.step)};
  options.after_backward = [this] { optimizer_.collect(); };
  options.index_warmup = in_index_warmup(run_.config.train, metrics.step);
  std::optional<OnlyIndexersLearn> frozen;
  if (options.index_warmup) frozen.emplace(run_.model.parameters());
  const StepLoss loss = accumulate_gradients(run_.model, next_batches(), options);
  frozen.reset();
  metrics.loss = loss.loss;
  metrics.mtp_loss = loss.mtp;
  metrics.tokens = loss.num_tokens;
  metrics.routing = router_metrics(loss);
  if (has_learning_indexer(run_.model.spec())) metrics.index_loss = loss.index;
  logits_.end(run_.model);
  metrics.grad_norm = optimizer_.clip();
  metrics.max_attention_logit = logits_.max_logit(run_.model);
  metrics.lr = learning_rate(run_.config.train, metrics.step);
  optimizer_.step(metrics.step, *metrics.lr);
  logits_.clip(run_.model, optimizer_);
  if (!run_.adapter && !options.index_warmup) balance_experts(run_.model, loss.routing);
  metrics.sparse_rows = optimizer_.sparse_rows();
  if (metrics.sparse_rows) metrics.optimizer_bytes = optimizer_.state_bytes();
  steps_done_ = metrics.step;
  if (checks_) {
    check_processes();
    metrics.checks_s = checks_->seconds() - checked_before;
  }
  return metrics;
}

std::optional<StepLoss> Trainer::evaluate() {
  if (!run_.dataset.validation) return std::nullopt;
  return held_out_loss(run_.model, *run_.dataset.validation, micro_batch_samples());
}

void Trainer::save_model(const std::filesystem::path& folder) const {
  if (run_.adapter) return save_adapter(*run_.adapter, run_.model, folder);
  const std::map<std::string, at::Tensor> parameters = named_tensors(run_.model.parameters());
  io::NativeContent content;
  content.spec = &run_.model.spec();
  content.parameters = &parameters;
  content.origin = run_.origin;
  content.token_ids = run_.token_ids;
  if (run_.config.model.hf) content.side_files = *run_.config.model.hf;
  io::write_native(folder, content);
}

void Trainer::save(const std::filesystem::path& folder) const {
  save_model(folder);
  run_.tokenizer->save(folder);
  if (run_.chat_template) {
    write_file_atomically((folder / "chat_template.jinja").string(), *run_.chat_template);
  }
  write_trainer_state(
      folder / "trainer",
      {steps_done_, run_.model.parameters().dtype(), loader_.state(), config::to_json(run_.config)},
      optimizer_.state(), run_.model.parameters().device());
}

void Trainer::restore(const std::filesystem::path& folder, const TrainerState& state) {
  loader_.restore(state.data);
  if (run_.adapter) {
    restore_adapter(*run_.adapter, run_.model, folder);
  } else {
    io::load_parameters(io::open_checkpoint(folder), named_tensors(run_.model.parameters()));
  }
  optimizer_.prepare_state(saved_rows(folder / "trainer"));
  read_trainer_tensors(folder / "trainer", optimizer_.state(), run_.model.parameters().device());
  optimizer_.adopt_state();
  steps_done_ = state.step;
}

}  // namespace headway::engine
