// Finds stop strings in text that arrives in pieces.
// Not for: stop token ids.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace headway::engine {

/// Text flows through `push`; what might still become a stop string is held back. After a stop
/// string was met, nothing more comes out: the text ends just before it.
class StopStrings {
 public:
  /// Errors: ConfigError for an empty stop string.
  explicit StopStrings(std::vector<std::string> stops);

  /// Text that is safe to show now.
  std::string push(std::string_view piece);
  /// What was held back when the text ends without a stop string.
  std::string finish();
  bool stopped() const { return stopped_; }

 private:
  size_t held_suffix() const;

  std::vector<std::string> stops_;
  std::string buffer_;
  bool stopped_ = false;
};

}  // namespace headway::engine
