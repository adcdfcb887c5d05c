// What every command that runs a model folder accepts: --model, --dtype, --device.
// Not for: run files.
#pragma once

#include <string>

#include <CLI/CLI.hpp>

#include "headway/engine/loaded_model.h"

namespace headway::cli {

struct ModelOptions {
  std::string model;
  std::string adapter;
  std::string dtype = "float32";
  std::string device = "cpu";
};

void add_model_options(CLI::App& command, ModelOptions& options);

/// float32 | float64 | bfloat16. Errors: ConfigError.
at::ScalarType parse_dtype(const std::string& name);

engine::LoadedModel load(const ModelOptions& options);

}  // namespace headway::cli
