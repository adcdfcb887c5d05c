// From the name in a configuration, or from a model folder, to a tokenizer.
// Not for: deciding which tokenizer a model family uses.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>

#include "headway/text/tokenizer.h"

namespace headway::text {

/// The tokenizer called `name`: "bytes" (built in), a folder, or a tokenizer file.
/// Errors: ConfigError (a bare name that is neither built in nor a path); CheckpointError (missing
/// or damaged file, folder without a tokenizer); UnsupportedError (a tokenizer this build cannot
/// run). Test: tests/unit/text/tokenizer_factory_test.cpp
std::shared_ptr<const Tokenizer> load_tokenizer(const std::string& name);

/// What a model folder says about its tokenizer. A folder without one, or with one that this build
/// cannot run, still works with token ids: then `tokenizer` is null and `reason` says why.
struct FolderTokenizer {
  std::shared_ptr<const Tokenizer> tokenizer;
  std::string reason;
  bool unsupported = false;  // there is a tokenizer, but this build cannot run it

  /// The tokenizer. Errors: UnsupportedError or CheckpointError with `reason` if there is none.
  const std::shared_ptr<const Tokenizer>& require() const;
};

/// Looks for tokenizer.json and tokenizer_config.json in `folder`.
/// Errors: CheckpointError if tokenizer_config.json is damaged.
FolderTokenizer find_tokenizer(const std::filesystem::path& folder);

/// Errors: ConfigError if the model has fewer ids than the tokenizer. More are fine: published
/// embeddings are padded.
void check_vocabulary(const Tokenizer& tokenizer, std::int64_t model_vocab_size);

}  // namespace headway::text
