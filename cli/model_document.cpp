// Reads MODEL, a run file or a checkpoint folder, into a description. Not for: weights.
#include "cli/model_document.h"

#include <filesystem>

#include "headway/base/error.h"
#include "headway/config/load.h"
#include "headway/engine/loaded_model.h"
#include "headway/io/checkpoint.h"
#include "headway/spec/from_config.h"
#include "headway/text/tokenizer_factory.h"

namespace headway::cli {
namespace {

ModelDocument from_folder(const std::string& path) {
  const io::Checkpoint checkpoint = io::open_checkpoint(engine::find_model_folder(path));
  return {checkpoint.spec, std::string(checkpoint.family->name)};
}

int64_t vocabulary_of(const config::ModelConfig& model) {
  return text::load_tokenizer(model.tokenizer)->vocab_size();
}

}  // namespace

ModelDocument read_model_document(const std::string& path,
                                  const std::vector<std::string>& overrides) {
  if (std::filesystem::is_directory(path)) {
    if (!overrides.empty()) {
      throw ConfigError("[" + path + "] override = '" + overrides.front() +
                        "', allowed only for a run file");
    }
    return from_folder(path);
  }
  // A published config.json needs no weights beside it.
  const std::filesystem::path file(path);
  if (file.filename() == io::kConfigName && std::filesystem::exists(file)) {
    if (overrides.empty()) return from_folder(file.has_parent_path() ? file.parent_path() : ".");
    throw ConfigError("[" + path + "] override = '" + overrides.front() +
                      "', allowed only for a run file");
  }
  config::LoadOptions options;
  options.needs_training = false;
  const config::RunConfig run = config::load_run(path, overrides, options);
  if (run.model.hf) {
    ModelDocument document = from_folder(*run.model.hf);
    document.kind = "run file, model of family " + document.kind;
    return document;
  }
  return {spec::resolve(run.model, vocabulary_of(run.model)), "run file"};
}

}  // namespace headway::cli
