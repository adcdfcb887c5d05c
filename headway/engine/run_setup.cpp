// Order of the checks: cheap ones first, the one that writes (data) last.
// Not for: the checks themselves, which live where the values are understood.
#include "headway/engine/run_setup.h"

#include <fmt/format.h>

#include "headway/base/error.h"
#include "headway/base/logging.h"
#include "headway/engine/index_warmup.h"
#include "headway/engine/loaded_model.h"
#include "headway/spec/from_config.h"
#include "headway/spec/megatron.h"
#include "headway/text/tokenizer_factory.h"

namespace headway::engine {
namespace {

void check_length(const config::DataConfig& data, const spec::ModelSpec& model) {
  if (data.sequence_length <= model.max_positions) return;
  throw ConfigError(
      fmt::format("data.sequence_length = {}: allowed at most the max_positions (= "
                  "{}) of model.hf",
                  data.sequence_length, model.max_positions));
}

void load_weights(const io::Checkpoint& checkpoint, nn::Transformer& model) {
  const io::LoadReport report = io::load_parameters(checkpoint, named_tensors(model.parameters()));
  for (const std::string& note : report.notes) log(LogLevel::kInfo, note);
}

std::optional<io::Origin> origin_of(const std::optional<io::Checkpoint>& source) {
  if (!source) return std::nullopt;
  if (source->family == &io::headway_family()) return source->origin;
  return io::Origin{std::string(source->family->name), source->config};
}

Json token_ids(const std::optional<io::Checkpoint>& source, const text::Tokenizer& tokenizer) {
  Json ids = Json::object();
  if (source) {
    for (const char* key : {"bos_token_id", "eos_token_id", "pad_token_id"}) {
      if (source->config.contains(key)) ids[key] = source->config[key];
    }
  } else {
    if (const auto id = tokenizer.bos_id()) ids["bos_token_id"] = *id;
    if (const auto id = tokenizer.eos_id()) ids["eos_token_id"] = *id;
  }
  return ids;
}

/// Where the files of the tokenizer stand that a run file names.
std::string tokenizer_folder(const std::string& name) {
  const std::filesystem::path path(name);
  std::error_code ignored;
  const bool is_file = std::filesystem::is_regular_file(path, ignored);
  return is_file ? path.parent_path().string() : name;
}

std::shared_ptr<const data::ChatEncoder> chat_encoder(const config::RunConfig& config) {
  if (!config.data.chat) return nullptr;
  return std::make_shared<const data::ChatEncoder>(*config.data.chat,
                                                   tokenizer_folder(config.model.tokenizer));
}

std::optional<AdapterRun> adapter_of(const config::ModelConfig& model,
                                     const std::optional<io::Checkpoint>& source) {
  if (!model.adapter) return std::nullopt;
  if (!source) throw ConfigError("model.adapter: not allowed without model.hf");
  return resolve_adapter(*model.adapter, *source);
}

/// Drawn, or those of the checkpoint; under an adapter that is restored later the checkpoint's too.
void fill_weights(const config::RunConfig& config, const RunSetup& setup,
                  const std::optional<io::Checkpoint>& source,
                  const std::optional<AdapterRun>& adapter, nn::Transformer& model) {
  const auto seed = static_cast<std::uint64_t>(config.train.seed);
  if (!setup.initial_weights && !adapter) return;
  if (source) {
    load_weights(*source, model);
  } else {
    model.parameters().initialise(seed);
  }
  if (adapter && setup.initial_weights) {
    start_adapter(*adapter, *config.model.adapter, seed, model);
  }
}

}  // namespace

config::TrainConfig training_of(const config::RunConfig& run) {
  config::TrainConfig train = run.train;
  if (run.model.megatron.is_null()) return train;
  const spec::MegatronConfig given = spec::read_megatron(run.model.megatron);
  train.log_max_attention_logit = train.log_max_attention_logit || given.log_max_attention_logit;
  if (!given.qk_clip) return train;
  const config::QkClipConfig clip{given.qk_clip_threshold, given.qk_clip_alpha};
  if (train.qk_clip && *train.qk_clip != clip) {
    throw ConfigError(
        fmt::format("train.qk_clip = {{threshold: {}, alpha: {}}}: contradicts model.megatron "
                    "(qk_clip_threshold = {}, qk_clip_alpha = {})",
                    train.qk_clip->threshold, train.qk_clip->alpha, clip.threshold, clip.alpha));
  }
  train.qk_clip = clip;
  return train;
}

PreparedRun prepare_run(const config::RunConfig& config, const RunSetup& setup) {
  training_of(config);  // throws before anything is read
  auto tokenizer = text::load_tokenizer(config.model.tokenizer);
  std::optional<io::Checkpoint> source;
  if (config.model.hf) source = io::open_checkpoint(*config.model.hf);
  const spec::ModelSpec spec =
      source ? source->spec : spec::resolve(config.model, tokenizer->vocab_size());
  text::check_vocabulary(*tokenizer, spec.embedding.vocab_size);
  check_length(config.data, spec);
  check_index_warmup(config, spec);
  const TrainMechanics mechanics =
      train_mechanics(config, static_cast<int64_t>(spec.layers.size()));

  const auto chat = chat_encoder(config);
  std::optional<AdapterRun> adapter = adapter_of(config.model, source);
  nn::Transformer model(
      spec, setup.dtype, setup.device,
      adapter ? std::make_shared<const spec::AdapterSpec>(adapter->targets.adapter) : nullptr);
  fill_weights(config, setup, source, adapter, model);
  data::Dataset dataset = data::open_dataset({config.data, tokenizer, spec.embedding.vocab_size,
                                              std::filesystem::path(config.output) / "cache", chat,
                                              setup.tokenize_progress});
  Json ids = token_ids(source, *tokenizer);
  PreparedRun run{
      config,    std::move(tokenizer), std::move(model),   std::move(dataset), origin_of(source),
      mechanics, std::move(ids),       std::move(adapter), std::nullopt};
  if (chat != nullptr) run.chat_template = chat->template_source();
  return run;
}

}  // namespace headway::engine
