// Which characters of a written conversation the assistant said: what fine-tuning learns.
// Not for: tokens (data/chat_encoder.h).
#pragma once

#include <string>
#include <vector>

#include "headway/text/chat_writer.h"

namespace headway::text {

struct LearnedChat {
  std::string text;
  std::vector<jinja::Span> spans;  // characters, in order, none overlapping
};

/// The conversation and the spans of the assistant's turns (`last_only`: of the last one).
/// A template with `{% generation %}` blocks says itself what they are. For any other, a turn is
/// what the conversation up to it adds to the conversation before it with add_generation_prompt:
/// both must be the beginning of the whole text, which is so unless the template tells the past
/// differently from the present.
/// Errors: ConfigError starting with `where` when there is no turn of the assistant, or none that
///         can be found so, or when the template refuses the conversation.
/// Source: transformers' return_assistant_tokens_mask.
/// Test: tests/unit/text/learned_chat_test.cpp
LearnedChat write_learned(const ChatWriter& writer, const ChatRequest& request, bool last_only,
                          const std::string& where);

}  // namespace headway::text
