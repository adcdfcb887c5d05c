// Text of the ids of a JsonTokenizer that arrive one by one.
// Not for: the byte tokenizer, which streams on its own.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "headway/text/tokenizer.h"

namespace headway::text {

class JsonTokenizer;

/// Decodes a window of the latest ids with and without the new one and gives the difference; text
/// is held back while it ends in U+FFFD. Byte-level decoders need no window: only the bytes since
/// the last text are kept.
/// Source: DecodeStream of tokenizers 0.23. Test: tests/golden/text
class WindowStream final : public StreamDecoder {
 public:
  /// `tokenizer` must outlive the stream.
  WindowStream(const JsonTokenizer& tokenizer, bool skip_special);
  std::string push(std::int64_t id) override;
  std::string finish() override;
  /// Why the text so far no longer equals that of decode, once a later id has changed what earlier
  /// ones mean (byte tokens that turned out not to be UTF-8); the stream goes on from that id.
  const std::optional<std::string>& broken() const { return broken_; }

 private:
  std::string push_bytes(const std::string& token);
  std::string push_window(std::int64_t id);
  std::string decode(std::span<const std::int64_t> ids) const;

  const JsonTokenizer& tokenizer_;
  bool skip_special_;
  bool byte_level_;
  std::string bytes_;  // byte level: not given yet
  std::vector<std::int64_t> window_;
  std::string prefix_;  // text of the first prefix_ids_ ids of the window
  std::size_t prefix_ids_ = 0;
  std::optional<std::string> broken_;
};

}  // namespace headway::text
