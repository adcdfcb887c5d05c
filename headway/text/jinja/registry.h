// The names a template can use: filters, tests, globals, methods. Each table is in one file.
// Not for: names the caller passes (messages, tools, …).
#pragma once

#include <string_view>

#include "headway/text/jinja/objects.h"

namespace headway::text::jinja {

/// Null if there is no such filter or test. The value is the first positional argument.
Native find_filter(std::string_view name);
Native find_test(std::string_view name);
/// Null if there is no such global.
Native find_global(std::string_view name);
/// A method of the value's type, or null. The object is the first positional argument.
Native find_method(const Value& object, std::string_view name);

struct NamedNative {
  std::string_view name;
  Native function;
};
Native find_text_filter(std::string_view name);
Native find_sequence_filter(std::string_view name);
Native find_selection_filter(std::string_view name);
Native find_text_method(std::string_view name);
Native find_format_method(std::string_view name);

}  // namespace headway::text::jinja
