// A model folder read into a module, tokenizer and spec. Not for: writing folders.
#include "headway/engine/loaded_model.h"

#include "headway/base/error.h"
#include "headway/base/logging.h"
#include "headway/engine/checkpoint_store.h"

namespace headway::engine {
namespace fs = std::filesystem;

namespace {

bool has_tokenizer_files(const fs::path& folder) {
  std::error_code ignored;
  return fs::exists(folder / "tokenizer.json", ignored) ||
         fs::exists(folder / "tokenizer_config.json", ignored);
}

}  // namespace

fs::path find_model_folder(const fs::path& path) {
  std::error_code ignored;
  if (fs::exists(path / io::kConfigName, ignored) || io::is_adapter_folder(path)) return path;
  if (fs::is_directory(path / "checkpoints", ignored)) {
    const CheckpointStore store(path);
    if (const auto step = store.newest()) return store.folder(*step);
    throw CheckpointError("[" + path.string() + "] checkpoints: none is complete yet");
  }
  if (!fs::exists(path, ignored)) throw CheckpointError("[" + path.string() + "] does not exist");
  throw CheckpointError(
      "[" + path.string() +
      "] is no model: allowed a folder with config.json, an adapter, or a run folder with "
      "checkpoints/");
}

std::map<std::string, at::Tensor> named_tensors(const nn::Parameters& parameters) {
  std::map<std::string, at::Tensor> named;
  for (size_t i = 0; i < parameters.specs().size(); ++i)
    named[parameters.specs()[i].name] = parameters.tensors()[i];
  return named;
}

LoadedModel load_model(const fs::path& path, at::ScalarType dtype, at::Device device,
                       const std::optional<fs::path>& adapter) {
  const fs::path folder = find_model_folder(path);
  LoadedModel loaded;
  std::optional<fs::path> beside;
  if (adapter) beside = find_model_folder(*adapter);
  loaded.checkpoint = io::open_checkpoint(folder, beside);
  // An adapter may bring a tokenizer and a chat template of its own.
  loaded.text_folder = loaded.checkpoint.folder;
  if (has_tokenizer_files(folder)) loaded.text_folder = folder;
  if (beside && has_tokenizer_files(*beside)) loaded.text_folder = *beside;
  loaded.tokenizer = text::find_tokenizer(loaded.text_folder);
  loaded.model = std::make_unique<nn::Transformer>(loaded.checkpoint.spec, dtype, device);
  const io::LoadReport report =
      io::load_parameters(loaded.checkpoint, named_tensors(loaded.model->parameters()));
  for (const std::string& note : report.notes) log(LogLevel::kInfo, note);
  for (const std::string& key : loaded.checkpoint.unknown_keys) {
    log(LogLevel::kDebug, "[" + folder.string() + "] config.json key '" + key + "' has no effect");
  }
  if (loaded.tokenizer.tokenizer) {
    text::check_vocabulary(*loaded.tokenizer.tokenizer,
                           loaded.checkpoint.spec.embedding.vocab_size);
  }
  return loaded;
}

}  // namespace headway::engine
