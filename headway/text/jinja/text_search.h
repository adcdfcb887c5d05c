// str.split, strip and their relatives on plain text. Not for: argument checks (methods_text*.cpp).
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace headway::text::jinja {

enum class Side { kLeft = 1, kRight = 2, kBoth = 3 };

/// Without white space, or without any of `chars`, on a side.
std::string_view strip(std::string_view text, std::optional<std::string_view> chars, Side side);
/// At most `limit` cuts (negative: all), from the left or from the right; without a separator at
/// runs of white space. A separator is not empty.
std::vector<std::string_view> split(std::string_view text,
                                    std::optional<std::string_view> separator, std::int64_t limit,
                                    bool from_right);
std::vector<std::string_view> split_lines(std::string_view text, bool keep_ends);
/// At most `limit` replacements (negative: all).
std::string replace(std::string_view text, std::string_view from, std::string_view to,
                    std::int64_t limit);
std::int64_t count_matches(std::string_view text, std::string_view part);

}  // namespace headway::text::jinja
