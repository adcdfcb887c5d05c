// Lines of conversations to tokens and to which of them are learned.
// Not for: where the turns of the assistant are in the text (text/learned_chat.h).
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "headway/config/chat_config.h"
#include "headway/text/chat_writer.h"
#include "headway/text/tokenizer.h"

namespace headway::data {

/// Tokens [begin, end).
struct TokenSpan {
  std::int64_t begin = 0;
  std::int64_t end = 0;
  bool operator==(const TokenSpan&) const = default;
};

struct EncodedChat {
  std::vector<std::int64_t> ids;
  std::vector<TokenSpan> learned;  // in order, none overlapping
};

/// Immutable and usable from several threads at once.
class ChatEncoder {
 public:
  /// `folder` is where the tokenizer came from: its templates are used unless the config names a
  /// FILE.jinja. Errors: CheckpointError (no template), ConfigError (no template of that name).
  ChatEncoder(const config::ChatDataConfig& config, const std::string& folder);

  /// One line, {"messages": […], "tools": […], "kwargs": {…}}, encoded without what a tokenizer
  /// puts around a text: the template writes special tokens itself. A token is learned from the one
  /// that holds a turn's first character to the one that holds its last.
  /// Errors: CheckpointError starting with `where`.
  /// Source: transformers, apply_chat_template(return_assistant_tokens_mask).
  EncodedChat encode(const text::Tokenizer& tokenizer, std::string_view line,
                     const std::string& where) const;

  /// Changes whenever encode may give something else.
  std::string fingerprint() const;
  /// The template of conversations without tools, to be kept beside a model trained on it.
  const std::string& template_source() const { return plain_->source(); }

 private:
  text::ChatWriter writer_;
  std::shared_ptr<const text::ChatTemplate> plain_;
  bool last_only_;
};

}  // namespace headway::data
