// From a chat to the token ids a model continues. Not for: generating or showing the answer.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "headway/engine/loaded_model.h"
#include "headway/text/chat_format.h"
#include "headway/text/chat_template.h"

namespace headway::cli {

/// A chat file: a list of messages, or an object with `messages` and maybe `tools` and `kwargs`.
/// Without an own word about it the assistant is asked to speak (add_generation_prompt).
/// Errors: ConfigError, CheckpointError (missing).
text::ChatRequest read_chat_file(const std::string& path);

/// Writes chats as the model folder says, or as --chat-template says instead: a FILE.jinja, or the
/// name of one of the folder's templates.
class ChatWriter {
 public:
  ChatWriter(const engine::LoadedModel& loaded, const std::string& model_folder,
             std::string chosen_template);

  /// The text of the chat: special tokens of the folder are variables unless the request has them.
  std::string render(const text::ChatRequest& request);
  std::vector<std::int64_t> encode(const std::string& text) const;

 private:
  const engine::LoadedModel& loaded_;
  text::ChatFormat format_;
  std::string chosen_;
  std::optional<text::ChatTemplate> parsed_;
};

}  // namespace headway::cli
