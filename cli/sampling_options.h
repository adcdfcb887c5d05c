// The options of commands that let a model write. Not for: what to continue.
#pragma once

#include <CLI/CLI.hpp>

#include "headway/engine/generator.h"

namespace headway::cli {

/// --temperature, --top-k, --top-p, --min-p, --repetition-penalty, --stop, --seed.
void add_sampling_options(CLI::App& command, engine::GenerateOptions& generate);

}  // namespace headway::cli
