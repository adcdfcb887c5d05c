// The commands of the program and what they share. One file per command; each adds one subcommand
// whose callback does the work and throws headway::Error. Not for: logic that a library user would
// want (that is in engine and below).
#pragma once

#include <string>
#include <vector>

#include <CLI/CLI.hpp>

#include "headway/base/json.h"

namespace headway::cli {

void add_validate(CLI::App& app);
void add_inspect(CLI::App& app);
void add_train(CLI::App& app);
void add_eval(CLI::App& app);
void add_generate(CLI::App& app);
void add_chat(CLI::App& app);
void add_convert(CLI::App& app);
void add_tokenize(CLI::App& app);
void add_probe(CLI::App& app);
void add_template(CLI::App& app);
void add_bench(CLI::App& app);
void add_doctor(CLI::App& app);

/// One JSON document on stdout, the only thing a command prints there with --json.
void print_json(const Json& value);

/// Sends the library's log lines and this program's own to stderr.
void install_logging();

}  // namespace headway::cli
