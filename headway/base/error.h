// Typed errors of the library and the process exit codes they map to.
// Not for: printing or exiting (only cli does that), nor for internal assertions on hot paths.
#pragma once

#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace headway {

/// Exit codes of the program (design: CLI contract).
enum class ExitCode : int {
  kOk = 0,
  kConfig = 2,
  kFile = 3,
  kUnsupported = 4,
  kNonFinite = 5,
  kBug = 70,
};

/// Base of every error the library throws. `what()` reads `[where] name = got, allowed ...; hint`.
class Error : public std::runtime_error {
 public:
  Error(std::string message, ExitCode code) : std::runtime_error(std::move(message)), code_(code) {}
  ExitCode exit_code() const { return code_; }

 private:
  ExitCode code_;
};

/// A configuration value, combination or command line that is not allowed.
/// Collects every problem of one document; `problems()` holds one line each.
class ConfigError : public Error {
 public:
  explicit ConfigError(std::string message)
      : Error(message, ExitCode::kConfig), problems_{std::move(message)} {}
  explicit ConfigError(std::vector<std::string> problems);
  const std::vector<std::string>& problems() const { return problems_; }

 private:
  std::vector<std::string> problems_;
};

/// A tensor argument whose shape, dtype or device breaks an op's contract.
class ShapeError : public Error {
 public:
  explicit ShapeError(std::string message) : Error(std::move(message), ExitCode::kConfig) {}
};

/// A file that is missing, damaged, or does not hold what the model needs.
class CheckpointError : public Error {
 public:
  explicit CheckpointError(std::string message) : Error(std::move(message), ExitCode::kFile) {}
};

/// A meaningful request that this build cannot serve; the message names what is missing.
class UnsupportedError : public Error {
 public:
  explicit UnsupportedError(std::string message)
      : Error(std::move(message), ExitCode::kUnsupported) {}
};

/// Training met a loss or gradient that is not finite; the message names the layer or parameter.
class NonFiniteError : public Error {
 public:
  explicit NonFiniteError(std::string message) : Error(std::move(message), ExitCode::kNonFinite) {}
};

/// A broken invariant of ours.
class InternalError : public Error {
 public:
  explicit InternalError(std::string message) : Error(std::move(message), ExitCode::kBug) {}
};

}  // namespace headway
