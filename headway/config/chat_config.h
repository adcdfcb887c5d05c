// Training on conversations: which turns count, and how they are written.
// Not for: rendering (text/chat_template.h).
#pragma once

#include <optional>
#include <string>

#include "headway/base/enum_table.h"
#include "headway/base/field_rule.h"

namespace headway::config {

/// Turns of the assistant that a loss is taken of.
enum class ChatTurns { kAll, kLast };

struct ChatDataConfig {
  static constexpr std::string_view kShorthand = "turns";
  ChatTurns turns = ChatTurns::kAll;
  std::optional<std::string> chat_template;
  bool operator==(const ChatDataConfig&) const = default;

  template <class V>
  static void fields(V& v) {
    v.field("turns", &ChatDataConfig::turns, "turns of the assistant that are learned");
    v.field("chat_template", &ChatDataConfig::chat_template,
            "FILE.jinja, or the name of one of the tokenizer folder's templates; none = its own",
            Rule().not_empty());
  }
};

}  // namespace headway::config

namespace headway {

template <>
struct EnumTable<config::ChatTurns> {
  static constexpr auto kEntries = std::to_array<EnumEntry<config::ChatTurns>>(
      {{config::ChatTurns::kAll, "all"}, {config::ChatTurns::kLast, "last"}});
};

}  // namespace headway
