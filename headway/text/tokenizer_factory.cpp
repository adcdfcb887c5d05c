// Recognises tokenizers by name and by the files of a folder.
// Not for: the engines themselves; each lives in its own file.
#include "headway/text/tokenizer_factory.h"

#include <fmt/format.h>

#include "headway/base/error.h"
#include "headway/base/json.h"
#include "headway/text/byte_tokenizer.h"
#include "headway/text/json_tokenizer.h"

namespace headway::text {
namespace {

namespace fs = std::filesystem;

// The tokenizer that a tokenizer_config.json names, if it names one that needs no other file.
FolderTokenizer from_config(const fs::path& path) {
  const Json config = parse_json_file(path.string());
  if (!config.is_object()) {
    throw CheckpointError(
        fmt::format("[{}] file = {}, allowed a mapping", path.string(), json_summary(config)));
  }
  const auto name = config.find("tokenizer_class");
  if (name != config.end() && *name == std::string(ByteTokenizer::kClassName)) {
    return {std::make_shared<ByteTokenizer>(), ""};
  }
  const std::string got = name == config.end() ? "absent" : json_summary(*name);
  return {nullptr,
          fmt::format("[tokenizer] {}: tokenizer_class = {} and no tokenizer.json, allowed \"{}\"",
                      path.string(), got, ByteTokenizer::kClassName),
          true};
}

std::shared_ptr<const Tokenizer> from_file(const fs::path& path) {
  const auto content = parse_json_file<nlohmann::json>(path.string(), JsonErrors::kCheckpoint,
                                                       {std::int64_t{256} << 20, 64});
  if (content.is_object() && content.contains("tokenizer_class")) {
    return from_config(path).require();
  }
  return JsonTokenizer::load(path, false);
}

}  // namespace

const std::shared_ptr<const Tokenizer>& FolderTokenizer::require() const {
  if (tokenizer) return tokenizer;
  if (unsupported) throw UnsupportedError(reason);
  throw CheckpointError(reason);
}

FolderTokenizer find_tokenizer(const fs::path& folder) {
  std::error_code ignored;
  if (fs::exists(folder / "tokenizer.json", ignored)) {
    try {
      return {JsonTokenizer::load(folder / "tokenizer.json", true), ""};
    } catch (const UnsupportedError& error) {
      return {nullptr, error.what(), true};
    }
  }
  if (fs::exists(folder / "tokenizer_config.json", ignored)) {
    return from_config(folder / "tokenizer_config.json");
  }
  return {nullptr,
          fmt::format("[tokenizer] {}: no tokenizer.json and no tokenizer_config.json there",
                      folder.string())};
}

std::shared_ptr<const Tokenizer> load_tokenizer(const std::string& name) {
  if (name == "bytes") return std::make_shared<ByteTokenizer>();
  const fs::path path(name);
  std::error_code ignored;
  if (fs::is_directory(path, ignored)) return find_tokenizer(path).require();
  if (fs::exists(path, ignored)) return from_file(path);
  if (name.find('/') != std::string::npos) {
    throw CheckpointError(fmt::format("[tokenizer] {}: no such file or folder", name));
  }
  throw ConfigError(fmt::format(
      "[tokenizer] tokenizer = {}, allowed bytes, a folder with tokenizer.json, or a file", name));
}

void check_vocabulary(const Tokenizer& tokenizer, std::int64_t model_vocab_size) {
  if (tokenizer.vocab_size() <= model_vocab_size) return;
  throw ConfigError(fmt::format(
      "[tokenizer] vocab_size = {}, allowed at most the model's vocab_size (= {}); hint: this "
      "tokenizer does not belong to this model",
      tokenizer.vocab_size(), model_vocab_size));
}

}  // namespace headway::text
