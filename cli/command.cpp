// What the commands share: output, exit codes, argument texts. Not for: any one command.
#include "cli/command.h"

#include <cstdio>

#include "headway/base/logging.h"

namespace headway::cli {

void print_json(const Json& value) {
  // Bytes that are not UTF-8 can come from a tokenizer; JSON cannot carry them.
  const std::string text = value.dump(2, ' ', false, Json::error_handler_t::replace);
  std::fwrite(text.data(), 1, text.size(), stdout);
  std::fputc('\n', stdout);
}

void install_logging() {
  set_log_sink([](LogLevel level, std::string_view line) {
    if (level == LogLevel::kDebug) return;
    std::fprintf(stderr, "headway: %s%.*s\n", level == LogLevel::kWarning ? "warning: " : "",
                 static_cast<int>(line.size()), line.data());
  });
}

}  // namespace headway::cli
