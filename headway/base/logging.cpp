// The process-wide log hook behind a mutex.
// Not for: any output of its own.
#include "headway/base/logging.h"

#include <mutex>

namespace headway {
namespace {

struct Logger {
  std::mutex mutex;
  LogSink sink;
};

Logger& logger() {
  static Logger instance;
  return instance;
}

}  // namespace

void set_log_sink(LogSink sink) {
  const std::lock_guard lock(logger().mutex);
  logger().sink = std::move(sink);
}

void log(LogLevel level, std::string_view line) {
  const std::lock_guard lock(logger().mutex);
  if (logger().sink) logger().sink(level, line);
}

}  // namespace headway
