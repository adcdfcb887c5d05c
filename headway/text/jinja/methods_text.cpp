// Methods of str that give text or say what it is made of. Not for: searching, cutting and joining
// (methods_search.cpp).
#include <algorithm>

#include <fmt/format.h>

#include "headway/text/jinja/budget.h"
#include "headway/text/jinja/error.h"
#include "headway/text/jinja/interpreter.h"
#include "headway/text/jinja/operators.h"
#include "headway/text/jinja/params.h"
#include "headway/text/jinja/registry.h"
#include "headway/text/jinja/text_search.h"
#include "headway/text/jinja/unicode.h"

namespace headway::text::jinja {
namespace {

const Value& self_of(const Args& args) { return args.positional.front(); }

// Methods of safe text give safe text.
Value like(const Args& args, std::string text) {
  return Value(std::move(text), self_of(args).is_safe());
}

template <std::string (*F)(std::string_view)>
Value mapped(Interpreter&, Args& args) {
  const Params params(args, "str method", {"/self"}, 1);
  charge(std::ssize(params.text(0)));
  return like(args, F(params.text(0)));
}

template <Side kSide>
Value stripped(Interpreter&, Args& args) {
  const Params params(args, "strip", {"/self", "/chars"}, 1);
  const auto chars =
      params.is_set(1) ? std::optional<std::string_view>(params.text(1)) : std::nullopt;
  return like(args, std::string(strip(params.text(0), chars, kSide)));
}

// True for text that is not empty and whose every character is one.
template <bool (*F)(char32_t)>
Value all_are(Interpreter&, Args& args) {
  const Params params(args, "str method", {"/self"}, 1);
  const std::string& text = params.text(0);
  for (std::size_t position = 0; position < text.size();) {
    if (!F(next_char(text, position))) return false;
  }
  return !text.empty();
}

bool is_alnum(char32_t c) { return is_alpha(c) || is_decimal(c) || is_digit(c) || is_numeric(c); }

Value is_printable_text(Interpreter& interpreter, Args& args) {
  return Value(self_of(args).text().empty() || truth(all_are<is_printable>(interpreter, args)));
}

Value is_ascii(Interpreter&, Args& args) {
  const std::string& text = self_of(args).text();
  return std::all_of(text.begin(), text.end(), [](char c) { return (c & 0x80) == 0; });
}

// islower, isupper: some cased characters, and none of the other case.
template <bool (*kWanted)(char32_t)>
Value has_case(Interpreter&, Args& args) {
  const Params params(args, "str method", {"/self"}, 1);
  bool any = false;
  for (std::size_t position = 0; position < params.text(0).size();) {
    const char32_t c = next_char(params.text(0), position);
    if (is_cased(c) && !kWanted(c)) return false;
    any = any || kWanted(c);
  }
  return any;
}

Value is_title(Interpreter&, Args& args) {
  const Params params(args, "istitle", {"/self"}, 1);
  bool any = false;
  bool inside_word = false;
  for (std::size_t position = 0; position < params.text(0).size();) {
    const char32_t c = next_char(params.text(0), position);
    const bool lower = is_lower(c);
    if (is_cased(c) && lower != inside_word) return false;
    inside_word = is_cased(c);
    any = any || inside_word;
  }
  return any;
}

Value is_identifier(Interpreter&, Args& args) {
  const Params params(args, "isidentifier", {"/self"}, 1);
  const std::string& text = params.text(0);
  for (std::size_t position = 0; position < text.size();) {
    const bool first = position == 0;
    const char32_t c = next_char(text, position);
    if (!is_word(c) || (first && !is_alpha(c) && c != '_')) return false;
  }
  return !text.empty();
}

Value replaced(Interpreter&, Args& args) {
  const Params params(args, "replace", {"/self", "/old", "/new", "/count"}, 3);
  const bool safe = self_of(args).is_safe();
  const std::string to = safe ? escaped(params[2]) : params.text(2);
  return like(args, replace(params.text(0), params.text(1), to, params.integer(3, -1)));
}

// Spaces before and after so that the text is `width` characters long.
Value padded(const Args& args, std::int64_t before, std::int64_t after, const std::string& fill) {
  const auto repeat = [&](std::int64_t count) {
    charge(std::max<std::int64_t>(0, count) * std::ssize(fill));
    std::string text;
    for (std::int64_t i = 0; i < count; ++i) text += fill;
    return text;
  };
  return like(args, repeat(before) + self_of(args).text() + repeat(after));
}

template <Side kSide>
Value justified(Interpreter&, Args& args) {
  const Params params(args, "justify", {"/self", "/width", "/fillchar"}, 2);
  const std::string fill = params.has(2) ? params.text(2) : " ";
  if (char_count(fill) != 1) fail_type("The fill character must be exactly one character long");
  const std::int64_t width = params.integer(1, 0);
  const std::int64_t missing = std::max<std::int64_t>(0, width - length(params[0]));
  if (kSide == Side::kLeft) return padded(args, 0, missing, fill);
  if (kSide == Side::kRight) return padded(args, missing, 0, fill);
  const std::int64_t left = missing / 2 + (missing & width & 1);
  return padded(args, left, missing - left, fill);
}

Value zero_filled(Interpreter&, Args& args) {
  const Params params(args, "zfill", {"/self", "/width"}, 2);
  const std::string& text = params.text(0);
  const std::int64_t missing = params.integer(1, 0) - length(params[0]);
  if (missing <= 0) return like(args, text);
  charge(missing);
  const std::size_t sign = !text.empty() && (text[0] == '+' || text[0] == '-') ? 1 : 0;
  return like(args, text.substr(0, sign) + std::string(static_cast<std::size_t>(missing), '0') +
                        text.substr(sign));
}

Value without_prefix(Interpreter&, Args& args) {
  const Params params(args, "removeprefix", {"/self", "/prefix"}, 2);
  const std::string& text = params.text(0);
  return like(args, text.starts_with(params.text(1)) ? text.substr(params.text(1).size()) : text);
}

Value without_suffix(Interpreter&, Args& args) {
  const Params params(args, "removesuffix", {"/self", "/suffix"}, 2);
  const std::string& text = params.text(0);
  const std::string& suffix = params.text(1);
  const bool ends = !suffix.empty() && text.ends_with(suffix);
  return like(args, ends ? text.substr(0, text.size() - suffix.size()) : text);
}

Value tabs_expanded(Interpreter&, Args& args) {
  const Params params(args, "expandtabs", {"/self", "tabsize"}, 1);
  const std::int64_t size = params.integer(1, 8);
  std::string out;
  std::int64_t column = 0;
  const std::string& text = params.text(0);
  for (std::size_t position = 0; position < text.size();) {
    const std::size_t start = position;
    const char32_t c = next_char(text, position);
    if (c == '\t') {
      const std::int64_t spaces = size > 0 ? size - column % size : 0;
      charge(spaces);
      out.append(static_cast<std::size_t>(spaces), ' ');
      column += spaces;
      continue;
    }
    out.append(text, start, position - start);
    column = c == '\n' || c == '\r' ? 0 : column + 1;
  }
  return like(args, std::move(out));
}

constexpr NamedNative kMethods[] = {
    {"upper", mapped<to_upper>},
    {"lower", mapped<to_lower>},
    {"title", mapped<to_title>},
    {"capitalize", mapped<to_capitalized>},
    {"swapcase", mapped<to_swapped_case>},
    {"casefold", mapped<to_case_folded>},
    {"strip", stripped<Side::kBoth>},
    {"lstrip", stripped<Side::kLeft>},
    {"rstrip", stripped<Side::kRight>},
    {"isalpha", all_are<is_alpha>},
    {"isdigit", all_are<is_digit>},
    {"isdecimal", all_are<is_decimal>},
    {"isnumeric", all_are<is_numeric>},
    {"isalnum", all_are<is_alnum>},
    {"isspace", all_are<is_space>},
    {"isprintable", is_printable_text},
    {"isascii", is_ascii},
    {"islower", has_case<is_lower>},
    {"isupper", has_case<is_upper>},
    {"istitle", is_title},
    {"isidentifier", is_identifier},
    {"replace", replaced},
    {"ljust", justified<Side::kLeft>},
    {"rjust", justified<Side::kRight>},
    {"center", justified<Side::kBoth>},
    {"zfill", zero_filled},
    {"removeprefix", without_prefix},
    {"removesuffix", without_suffix},
    {"expandtabs", tabs_expanded},
};

}  // namespace

Native find_text_method(std::string_view name) {
  for (const NamedNative& method : kMethods) {
    if (method.name == name) return method.function;
  }
  return nullptr;
}

}  // namespace headway::text::jinja
