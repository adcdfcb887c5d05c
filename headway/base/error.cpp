// How several problems become one message.
// Not for: formatting single problems (problems.cpp).
#include "headway/base/error.h"

namespace headway {
namespace {

std::string join_lines(const std::vector<std::string>& lines) {
  std::string text;
  for (const std::string& line : lines) {
    if (!text.empty()) text += '\n';
    text += line;
  }
  return text;
}

}  // namespace

ConfigError::ConfigError(std::vector<std::string> problems)
    : Error(join_lines(problems), ExitCode::kConfig), problems_(std::move(problems)) {}

}  // namespace headway
