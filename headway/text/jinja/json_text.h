// JSON out, exactly as Python's json.dumps writes it, and JSON in, as Python's json.loads reads it.
// Not for: configuration files (base/json.h).
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "headway/text/jinja/value.h"

namespace headway::text::jinja {

struct JsonStyle {
  bool ensure_ascii = false;
  std::optional<std::string> indent;
  std::string item_separator = ", ";
  std::string key_separator = ": ";
  bool sort_keys = false;
};

/// Errors: TemplateError of kind type ("Object of type Undefined is not JSON serializable").
std::string to_json(const Value& value, const JsonStyle& style);

/// One document, of any depth up to 100: order of keys kept, the last of equal keys wins, integers
/// of any size. `where` starts the message. Errors: ConfigError.
Value parse_json_value(std::string_view text, std::string_view where);

}  // namespace headway::text::jinja
