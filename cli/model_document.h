// MODEL of validate and inspect: a run file or a model folder, as a ModelSpec.
// Not for: weights.
#pragma once

#include <string>
#include <vector>

#include "headway/spec/model_spec.h"

namespace headway::cli {

struct ModelDocument {
  spec::ModelSpec spec;
  std::string kind;  // "run file", or the family of a folder
};

/// Reads and checks without opening a tensor file. Overrides are for run files only.
/// Errors: ConfigError, CheckpointError, UnsupportedError.
ModelDocument read_model_document(const std::string& path,
                                  const std::vector<std::string>& overrides);

}  // namespace headway::cli
