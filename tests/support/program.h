// Runs the headway program from a test and keeps what it said. The test needs PROGRAM in its
// headway_test(). Not for: calling the library.
#pragma once

#include <cstdio>
#include <filesystem>
#include <string>

#include "tests/support/temp_folder.h"

namespace headway::testing_support {

struct Outcome {
  int code = -1;
  std::string out;
  std::string err;
};

/// Runs the program with `arguments` as a shell would split them, stdin empty.
inline Outcome run_program(const TempFolder& folder, const std::string& arguments,
                           const std::string& environment = "") {
  const std::filesystem::path err = folder / "stderr.txt";
  const std::string command =
      environment + " " + HEADWAY_PROGRAM + " " + arguments + " 2>" + err.string() + " </dev/null";
  Outcome outcome;
  std::FILE* pipe = popen(command.c_str(), "r");
  char buffer[4096];
  for (size_t got; (got = std::fread(buffer, 1, sizeof buffer, pipe)) > 0;)
    outcome.out.append(buffer, got);
  const int status = pclose(pipe);
  outcome.code = WIFEXITED(status) ? WEXITSTATUS(status) : 128;
  outcome.err = read_bytes(err);
  return outcome;
}

}  // namespace headway::testing_support
