// Code points and Python's str methods on characters. Text is valid UTF-8.
// Not for: tokenizers, whose rules differ from Python's.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace headway::text::jinja {

/// The character at byte `position`; moves `position` past it.
char32_t next_char(std::string_view text, std::size_t& position);
void append_char(std::string& text, char32_t c);
std::u32string decode(std::string_view text);
std::string encode(std::u32string_view chars);

/// Characters in `text`, and the byte where character `index` starts (the end if there are fewer).
std::int64_t char_count(std::string_view text);
std::size_t char_offset(std::string_view text, std::int64_t index);

bool is_space(char32_t c);  // str.isspace
bool is_alpha(char32_t c);
bool is_decimal(char32_t c);
bool is_digit(char32_t c);
bool is_numeric(char32_t c);
bool is_lower(char32_t c);
bool is_upper(char32_t c);
bool is_cased(char32_t c);
bool is_printable(char32_t c);  // str.isprintable: what repr() shows as it is
bool is_word(char32_t c);       // \w of Python's re

std::string to_upper(std::string_view text);
std::string to_lower(std::string_view text);
std::string to_title(std::string_view text);
std::string to_capitalized(std::string_view text);
std::string to_swapped_case(std::string_view text);
std::string to_case_folded(std::string_view text);

}  // namespace headway::text::jinja
