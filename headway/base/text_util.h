// Small text helpers: UTF-8 checks, nearest names for error messages, numbers printed for people.
// Not for: tokenization or Unicode properties (see text/).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace headway {

/// Byte offset of the first byte that is not part of well-formed UTF-8 (RFC 3629: no overlong
/// forms, no surrogates, at most U+10FFFF), or nothing when all of `text` is well-formed.
std::optional<size_t> find_invalid_utf8(std::string_view text);

/// `text` with every ill-formed byte, or cut-off start of a character, replaced by one U+FFFD.
std::string replace_invalid_utf8(std::string_view text);

/// Insertions, deletions, substitutions and neighbour swaps that turn `a` into `b`.
size_t edit_distance(std::string_view a, std::string_view b);

/// The candidate nearest to `name`, if any is near enough to be what was meant.
std::optional<std::string> nearest_name(std::string_view name,
                                        const std::vector<std::string>& candidates);

std::string join(const std::vector<std::string>& parts, std::string_view separator);
std::vector<std::string> split(std::string_view text, char separator);
std::string_view trim(std::string_view text);

/// Shortest text that reads back as the same double: 5e+06, 0.1, nan, inf.
std::string format_double(double value);

/// 1234567 -> "1,234,567".
std::string format_count(int64_t value);

/// 1536 -> "1.50 KiB"; exact below 1 KiB.
std::string format_bytes(int64_t bytes);

/// `text` with control characters written as \xNN, so that a hostile name can neither end a message
/// nor move a terminal's cursor.
std::string printable(std::string_view text);

/// Cuts long text for an error message, on a UTF-8 boundary, and marks the cut with an ellipsis;
/// printable.
std::string shorten(std::string_view text, size_t max_bytes = 120);

}  // namespace headway
