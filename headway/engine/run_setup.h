// From a checked run file to what a trainer needs: tokenizer, model, data, each checked against the
// others. Not for: training (trainer.h) or the output folder (run_folder.h).
#pragma once

#include <memory>
#include <optional>

#include "headway/config/run_config.h"
#include "headway/data/dataset.h"
#include "headway/engine/adapter_run.h"
#include "headway/engine/train_mechanics.h"
#include "headway/io/checkpoint.h"
#include "headway/nn/transformer.h"
#include "headway/text/tokenizer.h"

namespace headway::engine {

struct RunSetup {
  at::Device device = at::kCPU;
  at::ScalarType dtype = at::kFloat;
  bool initial_weights = true;               // false: a checkpoint will be restored over them
  data::ProgressCallback tokenize_progress;  // may be empty
};

struct PreparedRun {
  config::RunConfig config;
  std::shared_ptr<const text::Tokenizer> tokenizer;
  nn::Transformer model;
  data::Dataset dataset;
  std::optional<io::Origin> origin;  // what model.hf was, so that the result can go back there
  TrainMechanics mechanics;
  Json token_ids = Json::object();    // bos_token_id, eos_token_id, pad_token_id as far as known
  std::optional<AdapterRun> adapter;  // what trains instead of the weights
  std::optional<std::string> chat_template;  // of data.chat, kept beside the model
};

/// train, with what model.megatron says about training (qk_clip, log_max_attention_logit) added.
/// Errors: ConfigError when the two contradict each other.
config::TrainConfig training_of(const config::RunConfig& run);

/// Tokenizer, then the model with its initial weights (drawn from train.seed, or those of
/// model.hf), then the data, which is encoded into `<output>/cache` where it is not yet. Leaves
/// nothing on disk if it throws. Errors: ConfigError (values that do not fit each other),
/// CheckpointError (files), UnsupportedError (tokenizer or model family).
PreparedRun prepare_run(const config::RunConfig& config, const RunSetup& setup);

}  // namespace headway::engine
