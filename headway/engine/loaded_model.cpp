// A model folder read into a module, tokenizer and spec. Not for: writing folders.
#include "headway/engine/loaded_model.h"

#include "headway/base/error.h"
#include "headway/base/logging.h"
#include "headway/engine/checkpoint_store.h"

namespace headway::engine {
namespace fs = std::filesystem;

fs::path find_model_folder(const fs::path& path) {
  std::error_code ignored;
  if (fs::exists(path / io::kConfigName, ignored)) return path;
  if (fs::is_directory(path / "checkpoints", ignored)) {
    const CheckpointStore store(path);
    if (const auto step = store.newest()) return store.folder(*step);
    throw CheckpointError("[" + path.string() + "] checkpoints: none is complete yet");
  }
  if (!fs::exists(path, ignored)) throw CheckpointError("[" + path.string() + "] does not exist");
  throw CheckpointError(
      "[" + path.string() +
      "] is no model: allowed a folder with config.json, or a run folder with checkpoints/");
}

std::map<std::string, at::Tensor> named_tensors(const nn::Parameters& parameters) {
  std::map<std::string, at::Tensor> named;
  for (size_t i = 0; i < parameters.specs().size(); ++i)
    named[parameters.specs()[i].name] = parameters.tensors()[i];
  return named;
}

LoadedModel load_model(const fs::path& path, at::ScalarType dtype, at::Device device) {
  const fs::path folder = find_model_folder(path);
  LoadedModel loaded;
  loaded.checkpoint = io::open_checkpoint(folder);
  loaded.tokenizer = text::find_tokenizer(folder);
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
