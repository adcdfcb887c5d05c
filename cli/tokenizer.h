// The command group `headway tokenizer`.
// Not for: `headway tokenize` (tokenize.cpp).
#pragma once

#include <CLI/CLI.hpp>

namespace headway::cli {

/// `headway tokenizer train`.
void add_tokenizer(CLI::App& app);

}  // namespace headway::cli
