// Escapes in the strings of templates, read as Python's unicode-escape codec reads them.
// Not for: JSON.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace headway::text::jinja {

/// The value of a string literal's body; nullopt for a broken escape (\x1, \u12, \N{...}).
std::optional<std::string> unescape(std::string_view body);

}  // namespace headway::text::jinja
