// The program: parses the command line, runs one command, turns errors into text on stderr and exit
// codes.
#include <algorithm>
#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include <ATen/Parallel.h>
#include <c10/util/Exception.h>

#include "headway/base/error.h"
#include "headway/base/text_util.h"
#include "headway/base/version.h"
#include "headway/ops/kernel_table.h"

#include "cli/command.h"

namespace headway::cli {
namespace {

int fail(ExitCode code, const char* message) {
  std::fprintf(stderr, "headway: error: %s\n", message);
  return static_cast<int>(code);
}

/// HEADWAY_THREADS, if set: the number of threads of every kernel.
void set_threads() {
  const char* value = std::getenv("HEADWAY_THREADS");
  if (value == nullptr || *value == '\0') return;
  int threads = 0;
  const char* end = value + std::strlen(value);
  const auto parsed = std::from_chars(value, end, threads);
  if (parsed.ec != std::errc() || parsed.ptr != end || threads < 1 || threads > 4096) {
    throw ConfigError(std::string("[HEADWAY_THREADS] value = '") + value + "', allowed 1 to 4096");
  }
  at::set_num_threads(threads);
}

void add_commands(CLI::App& app) {
  for (const auto add :
       {add_train, add_eval, add_generate, add_chat, add_convert, add_inspect, add_validate,
        add_tokenize, add_template, add_probe, add_bench, add_doctor}) {
    add(app);
  }
}

/// CLI11 only says that a command is missing when it does not know the one that was given.
void check_command(const CLI::App& app, int argc, char** argv) {
  if (argc < 2 || argv[1][0] == '-') return;
  std::vector<std::string> names;
  for (const CLI::App* command : app.get_subcommands(nullptr)) names.push_back(command->get_name());
  const std::string given = argv[1];
  if (std::find(names.begin(), names.end(), given) != names.end()) return;
  throw ConfigError("[headway] command = '" + given + "', allowed " + join(names, " | "));
}

int run(int argc, char** argv) {
  CLI::App app{"Trains, runs and converts transformers whose layers do not all attend alike.",
               "headway"};
  app.set_version_flag("--version", std::string("headway ") + std::string(version()));
  app.require_subcommand(1);
  add_commands(app);
  try {
    install_logging();
    set_threads();
    ops::check_environment();
    check_command(app, argc, argv);
    app.parse(argc, argv);
  } catch (const CLI::Success& done) {  // --help, --version
    return app.exit(done);
  } catch (const CLI::ParseError& error) {
    const std::string text = std::string(error.what()) + "; see headway --help";
    return fail(ExitCode::kConfig, text.c_str());
  }
  return static_cast<int>(ExitCode::kOk);
}

}  // namespace
}  // namespace headway::cli

int main(int argc, char** argv) {
  using headway::ExitCode;
  try {
    return headway::cli::run(argc, argv);
  } catch (const headway::Error& error) {
    return headway::cli::fail(error.exit_code(), error.what());
  } catch (const c10::Error& error) {
    return headway::cli::fail(ExitCode::kBug, error.what_without_backtrace());
  } catch (const std::bad_alloc&) {
    return headway::cli::fail(ExitCode::kBug, "out of memory");
  } catch (const std::exception& error) {
    return headway::cli::fail(ExitCode::kBug, error.what());
  }
}
