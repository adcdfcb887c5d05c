// Conversations as a folder says that they are written: the right template, with the texts of the
// special tokens. Not for: Jinja (chat_template.h) or tokens.
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "headway/text/chat_format.h"
#include "headway/text/chat_template.h"

namespace headway::text {

/// A conversation in a file: a list of messages, or an object with `messages` and maybe `tools` and
/// `kwargs` (further variables). `where` starts messages. Errors: ConfigError.
ChatRequest parse_chat(const jinja::Value& value, const std::string& where);

/// Whether the request sets that variable of its template.
bool has_variable(const ChatRequest& request, std::string_view name);

/// Usable from several threads at once.
class ChatWriter {
 public:
  /// `chosen`: a FILE.jinja instead of the folder's templates, or the name of one of them; empty =
  /// the folder's own choice. Errors: CheckpointError (no such file).
  ChatWriter(ChatFormat format, std::string chosen);

  /// The template that writes requests with, or without, tools.
  /// Errors: those of ChatFormat::source; jinja::TemplateError (syntax).
  std::shared_ptr<const ChatTemplate> choose(bool has_tools) const;

  /// The text: special tokens of the folder are variables unless the request has them.
  RenderedChat render(const ChatRequest& request) const;

  const ChatFormat& format() const { return format_; }
  /// Changes whenever the same conversation may be written in another way.
  std::string fingerprint() const;

 private:
  ChatFormat format_;
  std::string chosen_;
  mutable std::mutex mutex_;
  mutable std::map<std::string, std::shared_ptr<const ChatTemplate>> parsed_;  // by source
};

}  // namespace headway::text
