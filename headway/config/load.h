// Run files in and out: YAML or JSON, overrides, every check that needs no other file.
// Not for: resolving patterns (spec/from_config.h) or opening tokenizers, data and checkpoints.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "headway/base/problems.h"
#include "headway/config/run_config.h"

namespace headway::config {

struct LoadOptions {
  /// data.train and output must be given. Off for looking at a model (`validate`, `inspect`).
  bool needs_training = true;
};

/// Reads `path` (JSON when it ends in .json, else YAML), applies `overrides` in order ("a.b=value",
/// lists by index "a.0=value"; the value is YAML) and checks everything. Errors: ConfigError with
/// one line per problem; CheckpointError when the file cannot be read.
RunConfig load_run(const std::string& path, const std::vector<std::string>& overrides,
                   const LoadOptions& options = {});

/// The same from text in memory; `source` is the name in messages.
RunConfig parse_run(std::string_view text, const std::string& source,
                    const std::vector<std::string>& overrides, const LoadOptions& options = {});

/// A run as JSON or YAML with every field present; parse_run of it gives an equal run.
Json to_json(const RunConfig& run);
std::string to_yaml(const RunConfig& run);

/// Every rule of `model`, ranges included: for a config made in code. Problems are reported below
/// `path` ("model").
void check_model(const ModelConfig& model, const std::string& path, Problems& problems);

/// Only the rules over several fields: for a config whose fields were read from a document.
void check_model_rules(const ModelConfig& model, const std::string& path, Problems& problems);

}  // namespace headway::config
