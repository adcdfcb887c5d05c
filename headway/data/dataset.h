// From the data section of a run to training and validation samples.
// Not for: the model or the output folder beyond its cache.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>

#include "headway/config/run_config.h"
#include "headway/data/packing.h"
#include "headway/data/token_cache.h"
#include "headway/data/tokenize.h"

namespace headway::data {

struct DatasetRequest {
  config::DataConfig config;
  std::shared_ptr<const text::Tokenizer> tokenizer;
  std::int64_t model_vocab_size = 0;
  std::filesystem::path cache_folder;         // <output>/cache
  std::shared_ptr<const ChatEncoder> chat{};  // of config.chat; null for text
  ProgressCallback progress;                  // while text is encoded; may be empty
};

struct Dataset {
  PackedSamples train;                      // LastSample::kOverlap
  std::optional<PackedSamples> validation;  // LastSample::kShort; none if validation_fraction is 0
  std::int64_t skipped_files = 0;           // binary files in folders
  bool cached = false;                      // nothing had to be encoded
};

/// Finds the files, encodes them (or finds them encoded in the cache) and splits off validation:
/// the files of data.validation if any are named, else the end of the training stream. Nothing is
/// left on disk if it throws; otherwise the cache folder exists, so the caller looks at what is in
/// the output folder before. Errors: ConfigError (vocabulary, lengths, paths given twice),
/// CheckpointError (files). Test: tests/unit/data/dataset_test.cpp
Dataset open_dataset(const DatasetRequest& request);

/// All of the text files and folders in `paths` in stream order, encoded in memory: `eval --text`.
PackedSamples open_text(const std::vector<std::string>& paths,
                        std::shared_ptr<const text::Tokenizer> tokenizer, PackingRule rule);

}  // namespace headway::data
