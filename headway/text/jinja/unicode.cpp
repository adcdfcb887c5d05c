// Python's case mappings and character classes over utf8proc and small tables.
// Not for: normalisation or segmentation.
#include "headway/text/jinja/unicode.h"

#include <algorithm>
#include <iterator>

#include <utf8proc.h>

#include "headway/text/jinja/unicode_tables.h"

namespace headway::text::jinja {
namespace {

template <std::size_t N>
bool contains(const tables::Range (&ranges)[N], char32_t c) {
  const auto* range = std::partition_point(std::begin(ranges), std::end(ranges),
                                           [c](const tables::Range& r) { return r.last < c; });
  return range != std::end(ranges) && range->first <= c;
}

template <std::size_t N>
const tables::Mapping* find(const tables::Mapping (&mappings)[N], char32_t c) {
  const auto* mapping = std::partition_point(std::begin(mappings), std::end(mappings),
                                             [c](const tables::Mapping& m) { return m.from < c; });
  return mapping != std::end(mappings) && mapping->from == c ? mapping : nullptr;
}

utf8proc_category_t category(char32_t c) {
  return utf8proc_category(static_cast<utf8proc_int32_t>(c));
}

void append_mapped(std::string& out, const tables::Mapping& mapping) {
  for (const std::uint32_t c : mapping.to) {
    if (c != 0) append_char(out, c);
  }
}

void append_upper(std::string& out, char32_t c) {
  if (const auto* mapping = find(tables::kLongUpper, c)) return append_mapped(out, *mapping);
  append_char(out, static_cast<char32_t>(utf8proc_toupper(static_cast<utf8proc_int32_t>(c))));
}

void append_title(std::string& out, char32_t c) {
  if (const auto* mapping = find(tables::kLongTitle, c)) return append_mapped(out, *mapping);
  append_char(out, static_cast<char32_t>(utf8proc_totitle(static_cast<utf8proc_int32_t>(c))));
}

bool is_case_ignorable(char32_t c) {
  switch (category(c)) {
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_ME:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_SK:
      return true;
    default:
      break;
  }
  return c == '\'' || c == '.' || c == ':' || c == 0xB7 || c == 0x387 || c == 0x55F || c == 0x5F4 ||
         c == 0x2018 || c == 0x2019 || c == 0x2024 || c == 0x2027 || c == 0xFE13 || c == 0xFE52 ||
         c == 0xFE55 || c == 0xFF07 || c == 0xFF0E || c == 0xFF1A;
}

// A capital sigma becomes final if a cased character stands before it and none after it.
bool is_final_sigma(std::u32string_view chars, std::size_t at) {
  std::size_t before = at;
  while (before > 0 && is_case_ignorable(chars[before - 1])) --before;
  if (before == 0 || !is_cased(chars[before - 1])) return false;
  std::size_t after = at + 1;
  while (after < chars.size() && is_case_ignorable(chars[after])) ++after;
  return after == chars.size() || !is_cased(chars[after]);
}

void append_lower(std::string& out, std::u32string_view chars, std::size_t at) {
  const char32_t c = chars[at];
  if (c == 0x3A3) return append_char(out, is_final_sigma(chars, at) ? 0x3C2 : 0x3C3);
  if (c == 0x130) {
    out += "i\xCC\x87";
    return;
  }
  append_char(out, static_cast<char32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(c))));
}

bool is_ascii(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) { return (c & 0x80) == 0; });
}

}  // namespace

char32_t next_char(std::string_view text, std::size_t& position) {
  const auto byte = [&](std::size_t i) {
    return i < text.size() ? static_cast<unsigned char>(text[i]) : 0u;
  };
  const unsigned first = byte(position);
  const std::size_t length = first < 0x80 ? 1 : first < 0xE0 ? 2 : first < 0xF0 ? 3 : 4;
  char32_t c = length == 1 ? first : first & (0x7Fu >> length);
  for (std::size_t i = 1; i < length; ++i) c = (c << 6) | (byte(position + i) & 0x3Fu);
  position = std::min(position + length, text.size());
  return c;
}

void append_char(std::string& text, char32_t c) {
  if (c < 0x80) {
    text += static_cast<char>(c);
  } else if (c < 0x800) {
    text += static_cast<char>(0xC0 | (c >> 6));
    text += static_cast<char>(0x80 | (c & 0x3F));
  } else if (c < 0x10000) {
    if (c >= 0xD800 && c < 0xE000) c = 0xFFFD;  // UTF-8 has no lone surrogates
    text += static_cast<char>(0xE0 | (c >> 12));
    text += static_cast<char>(0x80 | ((c >> 6) & 0x3F));
    text += static_cast<char>(0x80 | (c & 0x3F));
  } else {
    text += static_cast<char>(0xF0 | (c >> 18));
    text += static_cast<char>(0x80 | ((c >> 12) & 0x3F));
    text += static_cast<char>(0x80 | ((c >> 6) & 0x3F));
    text += static_cast<char>(0x80 | (c & 0x3F));
  }
}

std::u32string decode(std::string_view text) {
  std::u32string chars;
  chars.reserve(text.size());
  for (std::size_t position = 0; position < text.size();) chars += next_char(text, position);
  return chars;
}

std::string encode(std::u32string_view chars) {
  std::string text;
  text.reserve(chars.size());
  for (const char32_t c : chars) append_char(text, c);
  return text;
}

std::int64_t char_count(std::string_view text) {
  return std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xC0) != 0x80; });
}

std::size_t char_offset(std::string_view text, std::int64_t index) {
  if (index > 0 && static_cast<std::size_t>(index) >= text.size()) return text.size();
  std::size_t position = 0;
  for (; position < text.size(); ++position) {
    if ((text[position] & 0xC0) == 0x80) continue;
    if (index-- == 0) break;
  }
  return position;
}

bool is_space(char32_t c) {
  return (c >= 9 && c <= 13) || (c >= 28 && c <= 32) || c == 0x85 || c == 0xA0 || c == 0x1680 ||
         (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F ||
         c == 0x3000;
}

bool is_alpha(char32_t c) {
  const auto of = category(c);
  return of >= UTF8PROC_CATEGORY_LU && of <= UTF8PROC_CATEGORY_LO;
}
bool is_decimal(char32_t c) { return category(c) == UTF8PROC_CATEGORY_ND; }
bool is_digit(char32_t c) { return is_decimal(c) || contains(tables::kOtherDigit, c); }
bool is_numeric(char32_t c) {
  const auto of = category(c);
  return of == UTF8PROC_CATEGORY_ND || of == UTF8PROC_CATEGORY_NL || of == UTF8PROC_CATEGORY_NO ||
         contains(tables::kOtherNumeric, c);
}
bool is_lower(char32_t c) {
  return category(c) == UTF8PROC_CATEGORY_LL || contains(tables::kOtherLower, c);
}
bool is_upper(char32_t c) {
  return category(c) == UTF8PROC_CATEGORY_LU || contains(tables::kOtherUpper, c);
}
bool is_cased(char32_t c) {
  return is_lower(c) || is_upper(c) || category(c) == UTF8PROC_CATEGORY_LT;
}

bool is_printable(char32_t c) {
  if (c == ' ') return true;
  switch (category(c)) {
    case UTF8PROC_CATEGORY_CN:
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CS:
    case UTF8PROC_CATEGORY_CO:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP:
    case UTF8PROC_CATEGORY_ZS:
      return false;
    default:
      return true;
  }
}

bool is_word(char32_t c) { return c == '_' || is_alpha(c) || is_numeric(c); }

std::string to_upper(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (std::size_t position = 0; position < text.size();) {
    append_upper(out, next_char(text, position));
  }
  return out;
}

std::string to_lower(std::string_view text) {
  std::string out;
  if (is_ascii(text)) {
    out.resize(text.size());
    std::transform(text.begin(), text.end(), out.begin(), [](char c) {
      return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
    });
    return out;
  }
  const std::u32string chars = decode(text);
  out.reserve(text.size());
  for (std::size_t i = 0; i < chars.size(); ++i) append_lower(out, chars, i);
  return out;
}

std::string to_title(std::string_view text) {
  const std::u32string chars = decode(text);
  std::string out;
  bool inside_word = false;
  for (std::size_t i = 0; i < chars.size(); ++i) {
    if (inside_word) {
      append_lower(out, chars, i);
    } else {
      append_title(out, chars[i]);
    }
    inside_word = is_cased(chars[i]);
  }
  return out;
}

std::string to_capitalized(std::string_view text) {
  const std::u32string chars = decode(text);
  std::string out;
  for (std::size_t i = 0; i < chars.size(); ++i) {
    if (i == 0) {
      append_title(out, chars[i]);
    } else {
      append_lower(out, chars, i);
    }
  }
  return out;
}

std::string to_swapped_case(std::string_view text) {
  const std::u32string chars = decode(text);
  std::string out;
  for (std::size_t i = 0; i < chars.size(); ++i) {
    if (is_upper(chars[i])) {
      append_lower(out, chars, i);
    } else if (is_lower(chars[i])) {
      append_upper(out, chars[i]);
    } else {
      append_char(out, chars[i]);
    }
  }
  return out;
}

std::string to_case_folded(std::string_view text) {
  std::string out;
  for (std::size_t position = 0; position < text.size();) {
    const char32_t c = next_char(text, position);
    utf8proc_int32_t folded[4];
    int boundary = 0;
    const auto count = utf8proc_decompose_char(static_cast<utf8proc_int32_t>(c), folded, 4,
                                               UTF8PROC_CASEFOLD, &boundary);
    if (count < 1 || count > 4) {
      append_char(out, c);
      continue;
    }
    for (utf8proc_ssize_t i = 0; i < count; ++i) append_char(out, static_cast<char32_t>(folded[i]));
  }
  return out;
}

}  // namespace headway::text::jinja
