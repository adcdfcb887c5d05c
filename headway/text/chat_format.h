// How a model folder says that chats are written: its templates and the texts of its special
// tokens. Not for: rendering (chat_template.h).
#pragma once

#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "headway/text/jinja/interpreter.h"

namespace headway::text {

struct ChatFormat {
  struct Named {
    std::string name;  // "default" unless the folder has several
    std::string source;
  };
  std::vector<Named> templates;
  jinja::Variables tokens;  // bos_token, eos_token, … as text
  std::string folder;       // for messages

  /// The template called `name`; without a name the one for tools, if there are any and it exists,
  /// else the default. Errors: ConfigError naming those there are; CheckpointError if there is
  /// none.
  const std::string& source(const std::string& name, bool has_tools) const;
};

/// Looks, in this order, at chat_template.jinja and additional_chat_templates/*.jinja,
/// chat_template.json, and chat_template in tokenizer_config.json (a text, or a list of names and
/// templates). Special tokens come from tokenizer_config.json and, where that is silent, from
/// special_tokens_map.json. A folder without any of these gives an empty format.
/// Errors: CheckpointError (damaged file). Test: tests/unit/text/chat_format_test.cpp
ChatFormat find_chat_format(const std::filesystem::path& folder);

}  // namespace headway::text
