// YAML text to the JSON DOM and back, with limits against hostile input.
// Not for: tags beyond !!str, !!int, !!float, !!bool, !!null, several documents, or keys that are
// not scalars.
#pragma once

#include <string>
#include <string_view>

#include "headway/base/json.h"

namespace headway::config {

/// Parses one YAML 1.2 document (core schema: only true/false are booleans; 5e6 and 1e4 are
/// numbers; a quoted scalar is text). Aliases are copied, within a limit on the number of nodes.
/// Errors: ConfigError "[source] line n: …" for bad syntax, duplicate keys, foreign tags, more than
/// 1 MiB, 100 levels or 100,000 nodes, and text that is not UTF-8.
Json parse_yaml(std::string_view text, std::string_view source);

/// Block-style YAML that parse_yaml reads back as the same value.
std::string emit_yaml(const Json& value);

/// How the plain scalar `text` reads: null, boolean, number, or text.
Json resolve_plain_scalar(const std::string& text);

}  // namespace headway::config
