// Finds stop strings in text that arrives in pieces. Not for: token stop ids.
#include "headway/engine/stop_strings.h"

#include <algorithm>
#include <utility>

#include "headway/base/error.h"

namespace headway::engine {

StopStrings::StopStrings(std::vector<std::string> stops) : stops_(std::move(stops)) {
  for (const std::string& stop : stops_) {
    if (stop.empty())
      throw ConfigError("[generate] --stop = '', allowed a text of at least one character");
  }
}

/// Length of the longest suffix of the buffer that begins a stop string.
size_t StopStrings::held_suffix() const {
  size_t held = 0;
  for (const std::string& stop : stops_) {
    for (size_t size = std::min(stop.size() - 1, buffer_.size()); size > held; --size) {
      if (buffer_.compare(buffer_.size() - size, size, stop, 0, size) == 0) held = size;
    }
  }
  return held;
}

std::string StopStrings::push(std::string_view piece) {
  if (stopped_) return {};
  buffer_ += piece;
  size_t first = std::string::npos;
  for (const std::string& stop : stops_) first = std::min(first, buffer_.find(stop));
  if (first != std::string::npos) {
    stopped_ = true;
    return buffer_.substr(0, first);
  }
  const size_t ready = buffer_.size() - held_suffix();
  std::string out = buffer_.substr(0, ready);
  buffer_.erase(0, ready);
  return out;
}

std::string StopStrings::finish() { return stopped_ ? std::string() : std::exchange(buffer_, {}); }

}  // namespace headway::engine
