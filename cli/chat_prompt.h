// From a chat to the token ids a model continues. Not for: generating or showing the answer.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "headway/engine/loaded_model.h"
#include "headway/text/chat_writer.h"

namespace headway::cli {

/// A chat file: a list of messages, or an object with `messages` and maybe `tools` and `kwargs`.
/// Without an own word about it the assistant is asked to speak (add_generation_prompt).
/// Errors: ConfigError, CheckpointError (missing).
text::ChatRequest read_chat_file(const std::string& path);

/// Writes chats as the model folder says, or as --chat-template says instead: a FILE.jinja, or the
/// name of one of the folder's templates.
class ChatPrompt {
 public:
  ChatPrompt(const engine::LoadedModel& loaded, const std::string& chosen_template)
      : loaded_(loaded), writer_(text::find_chat_format(loaded.text_folder), chosen_template) {}

  std::string render(const text::ChatRequest& request) const {
    return writer_.render(request).text;
  }
  /// The template writes special tokens itself; a second BOS would be wrong.
  std::vector<std::int64_t> encode(const std::string& text) const {
    return loaded_.tokenizer.require()->encode(text, false);
  }

 private:
  const engine::LoadedModel& loaded_;
  text::ChatWriter writer_;
};

}  // namespace headway::cli
