// Searching and cutting text as Python does. Not for: regular expressions.
#include "headway/text/jinja/text_search.h"

#include <algorithm>

#include "headway/text/jinja/budget.h"
#include "headway/text/jinja/unicode.h"

namespace headway::text::jinja {
namespace {

bool is_stripped(char32_t c, const std::optional<std::u32string>& chars) {
  return chars ? chars->find(c) != std::u32string::npos : is_space(c);
}

std::size_t previous(std::string_view text, std::size_t end) {
  --end;
  while (end > 0 && (text[end] & 0xC0) == 0x80) --end;
  return end;
}

std::vector<std::string_view> split_space(std::string_view text, std::int64_t limit) {
  std::vector<std::string_view> parts;
  while (!(text = strip(text, std::nullopt, Side::kLeft)).empty()) {
    if (limit >= 0 && std::ssize(parts) == limit) {
      parts.push_back(text);
      break;
    }
    std::size_t end = 0;
    for (std::size_t next = 0; next < text.size(); end = next) {
      if (is_space(next_char(text, next))) break;
    }
    parts.push_back(text.substr(0, end));
    text.remove_prefix(end);
  }
  return parts;
}

std::vector<std::string_view> split_space_right(std::string_view text, std::int64_t limit) {
  std::vector<std::string_view> parts;
  while (!(text = strip(text, std::nullopt, Side::kRight)).empty()) {
    if (limit >= 0 && std::ssize(parts) == limit) {
      parts.push_back(text);
      break;
    }
    std::size_t begin = text.size();
    while (begin > 0) {
      std::size_t at = previous(text, begin);
      std::size_t next = at;
      if (is_space(next_char(text, next))) break;
      begin = at;
    }
    parts.push_back(text.substr(begin));
    text = text.substr(0, begin);
  }
  std::reverse(parts.begin(), parts.end());
  return parts;
}

bool is_line_end(char32_t c) {
  return (c >= 0x0A && c <= 0x0D) || (c >= 0x1C && c <= 0x1E) || c == 0x85 || c == 0x2028 ||
         c == 0x2029;
}

}  // namespace

std::string_view strip(std::string_view text, std::optional<std::string_view> chars, Side side) {
  const auto set = chars ? std::optional<std::u32string>(decode(*chars)) : std::nullopt;
  std::size_t begin = 0;
  std::size_t end = text.size();
  if (side != Side::kRight) {
    for (std::size_t next = 0; next < end; begin = next) {
      if (!is_stripped(next_char(text, next), set)) break;
    }
  }
  if (side != Side::kLeft) {
    while (end > begin) {
      const std::size_t at = previous(text, end);
      std::size_t next = at;
      if (!is_stripped(next_char(text, next), set)) break;
      end = at;
    }
  }
  return text.substr(begin, end - begin);
}

std::vector<std::string_view> split(std::string_view text,
                                    std::optional<std::string_view> separator, std::int64_t limit,
                                    bool from_right) {
  charge(std::ssize(text));
  if (!separator) return from_right ? split_space_right(text, limit) : split_space(text, limit);
  std::vector<std::string_view> parts;
  while (limit < 0 || std::ssize(parts) < limit) {
    const std::size_t at = from_right ? text.rfind(*separator) : text.find(*separator);
    if (at == std::string_view::npos) break;
    const std::size_t after = at + separator->size();
    parts.push_back(from_right ? text.substr(after) : text.substr(0, at));
    text = from_right ? text.substr(0, at) : text.substr(after);
  }
  parts.push_back(text);
  if (from_right) std::reverse(parts.begin(), parts.end());
  charge(std::ssize(parts) * 64);
  return parts;
}

std::vector<std::string_view> split_lines(std::string_view text, bool keep_ends) {
  std::vector<std::string_view> lines;
  std::size_t begin = 0;
  for (std::size_t next = 0; next < text.size();) {
    const std::size_t at = next;
    const char32_t c = next_char(text, next);
    if (!is_line_end(c)) continue;
    if (c == '\r' && next < text.size() && text[next] == '\n') ++next;
    lines.push_back(text.substr(begin, (keep_ends ? next : at) - begin));
    begin = next;
  }
  if (begin < text.size()) lines.push_back(text.substr(begin));
  return lines;
}

std::string replace(std::string_view text, std::string_view from, std::string_view to,
                    std::int64_t limit) {
  std::string out;
  const auto grow = [&out](std::string_view part) {
    out += part;
    if (Budget* budget = Budget::active()) budget->check_size(std::ssize(out));
  };
  if (from.empty()) {  // between all characters and at both ends
    std::size_t position = 0;
    for (; limit < 0 || limit-- > 0;) {
      grow(to);
      if (position == text.size()) return out;
      const std::size_t start = position;
      next_char(text, position);
      grow(text.substr(start, position - start));
    }
    grow(text.substr(position));
    return out;
  }
  std::size_t position = 0;
  while (limit < 0 || limit-- > 0) {
    const std::size_t at = text.find(from, position);
    if (at == std::string_view::npos) break;
    grow(text.substr(position, at - position));
    grow(to);
    position = at + from.size();
  }
  grow(text.substr(position));
  return out;
}

std::int64_t count_matches(std::string_view text, std::string_view part) {
  if (part.empty()) return char_count(text) + 1;
  std::int64_t count = 0;
  for (std::size_t at = text.find(part); at != std::string_view::npos;
       at = text.find(part, at + part.size())) {
    ++count;
  }
  return count;
}

}  // namespace headway::text::jinja
