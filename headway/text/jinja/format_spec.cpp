// The format mini-language: [[fill]align][sign][#][0][width][grouping][.precision][type].
// Not for: finding fields in a format (format_braces.cpp).
#include <cmath>
#include <cstdio>

#include <fmt/format.h>

#include "headway/text/jinja/budget.h"
#include "headway/text/jinja/error.h"
#include "headway/text/jinja/format.h"
#include "headway/text/jinja/operators.h"
#include "headway/text/jinja/print.h"
#include "headway/text/jinja/unicode.h"

namespace headway::text::jinja {
namespace {

constexpr std::int64_t kLargestPrecision = 5000;

struct Spec {
  std::string fill = " ";
  char align = 0;
  char sign = 0;  // 0: not given, which is '-'
  bool zero = false;
  bool alternate = false;
  std::int64_t width = 0;
  char grouping = 0;
  std::int64_t precision = -1;
  char type = 0;
};

bool is_align(char32_t c) { return c == '<' || c == '>' || c == '=' || c == '^'; }

std::int64_t read_number(std::string_view text, std::size_t& i, bool& found) {
  std::int64_t number = 0;
  found = false;
  for (; i < text.size() && text[i] >= '0' && text[i] <= '9'; ++i) {
    found = true;
    number = number * 10 + (text[i] - '0');
    if (number > (std::int64_t{1} << 31)) {
      fail(ErrorKind::kValue, "Too many decimal digits in format string");
    }
  }
  return number;
}

Spec parse_spec(std::string_view text) {
  Spec spec;
  std::size_t i = 0;
  std::size_t after = 0;
  if (!text.empty()) {
    next_char(text, after);
    if (after < text.size() && is_align(static_cast<unsigned char>(text[after]))) {
      spec.fill = std::string(text.substr(0, after));
      spec.align = text[after];
      i = after + 1;
    } else if (is_align(static_cast<unsigned char>(text[0]))) {
      spec.align = text[0];
      i = 1;
    }
  }
  const auto at = [&](char c) { return i < text.size() && text[i] == c; };
  if (at('+') || at('-') || at(' ')) spec.sign = text[i++];
  if (at('z')) ++i;
  if (at('#')) {
    spec.alternate = true;
    ++i;
  }
  if (at('0')) {
    spec.zero = true;
    if (spec.align == 0) spec.fill = "0";
    ++i;
  }
  bool found = false;
  spec.width = read_number(text, i, found);
  if (at(',') || at('_')) spec.grouping = text[i++];
  if (at('.')) {
    ++i;
    spec.precision = read_number(text, i, found);
    if (!found) fail(ErrorKind::kValue, "Format specifier missing precision");
  }
  if (i < text.size()) spec.type = text[i++];
  if (i != text.size()) fail(ErrorKind::kValue, "Invalid format specifier");
  return spec;
}

std::string pad(const std::string& sign, const std::string& body, const Spec& spec, char align) {
  const std::int64_t size = char_count(sign) + char_count(body);
  const std::int64_t missing = std::max<std::int64_t>(0, spec.width - size);
  charge(missing);
  const auto fill = [&](std::int64_t count) {
    std::string text;
    for (std::int64_t k = 0; k < count; ++k) text += spec.fill;
    return text;
  };
  switch (align) {
    case '<':
      return sign + body + fill(missing);
    case '^':
      return fill(missing / 2) + sign + body + fill(missing - missing / 2);
    case '=':
      return sign + fill(missing) + body;
    default:
      return fill(missing) + sign + body;
  }
}

std::string group_digits(const std::string& digits, char separator, std::size_t size) {
  std::string out;
  for (std::size_t k = 0; k < digits.size(); ++k) {
    if (k > 0 && (digits.size() - k) % size == 0) out += separator;
    out += digits[k];
  }
  return out;
}

// Numbers stand to the right, or behind their sign if zeros fill the space between.
char number_align(const Spec& spec) { return spec.align != 0 ? spec.align : spec.zero ? '=' : '>'; }

// Groups the leading digits of a number; zero padding counts as digits, as in Python.
std::string grouped(std::string body, const Spec& spec, std::size_t group, std::size_t sign_size) {
  if (spec.grouping == 0) return body;
  const char* const allowed = group == 3 ? "0123456789" : "0123456789abcdefABCDEF";
  const std::size_t digits = std::min(body.find_first_not_of(allowed), body.size());
  std::string head = body.substr(0, digits);
  const std::string tail = body.substr(digits);
  if (number_align(spec) == '=' && spec.fill == "0") {
    const auto want = static_cast<std::size_t>(std::min<std::int64_t>(spec.width, 1 << 20));
    while (group_digits(head, spec.grouping, group).size() + tail.size() + sign_size < want) {
      head.insert(0, 1, '0');
    }
  }
  return group_digits(head, spec.grouping, group) + tail;
}

std::string sign_text(bool negative, char sign) {
  if (negative) return "-";
  return sign == '-' || sign == 0 ? "" : std::string(1, sign);
}

[[noreturn]] void fail_code(char type, const Value& value) {
  fail(ErrorKind::kValue,
       fmt::format("Unknown format code '{}' for object of type '{}'", type, type_name(value)));
}

std::string format_double(const Value& value, const Spec& spec) {
  double number = value.is(Type::kFloat) ? value.as_float() : value.as_big().to_double();
  const bool negative = std::signbit(number) && !std::isnan(number);
  number = std::fabs(number);
  std::string body;
  const int precision = static_cast<int>(spec.precision);
  if (spec.precision > kLargestPrecision) fail(ErrorKind::kValue, "precision too big");
  if (spec.type == 0 && spec.precision < 0) {
    body = float_text(number);
  } else if (spec.type == 0) {
    body = format_float(number, 'g', precision, false);
    if (std::isfinite(number) && body.find_first_of(".e") == std::string::npos) body += ".0";
  } else if (spec.type == '%') {
    body = format_float(number * 100.0, 'f', precision < 0 ? 6 : precision, spec.alternate) + "%";
  } else {
    const char type = spec.type == 'n' ? 'g' : spec.type;
    body = format_float(number, type, precision < 0 ? 6 : precision, spec.alternate);
  }
  const std::string sign = sign_text(negative, spec.sign);
  return pad(sign, grouped(body, spec, 3, sign.size()), spec, number_align(spec));
}

std::string format_integer(const Value& value, const Spec& spec) {
  const BigInt number = value.as_big();
  if (spec.precision >= 0) {
    fail(ErrorKind::kValue, "Precision not allowed in integer format specifier");
  }
  if (spec.type == 'c') {
    const auto code = number.to_int64();
    if (!code || *code < 0 || *code > 0x10FFFF) {
      fail(ErrorKind::kArithmetic, "%c arg not in range(0x110000)");
    }
    std::string text;
    append_char(text, static_cast<char32_t>(*code));
    return pad("", text, spec, spec.align == 0 ? '<' : spec.align);
  }
  const int base = spec.type == 'b'                       ? 2
                   : spec.type == 'o'                     ? 8
                   : spec.type == 'x' || spec.type == 'X' ? 16
                                                          : 10;
  std::string body = (number.is_negative() ? number.negated() : number).to_string(base);
  std::string sign = sign_text(number.is_negative(), spec.sign);
  if (spec.alternate && base != 10) sign += base == 2 ? "0b" : base == 8 ? "0o" : "0x";
  if (spec.type == 'X') {
    body = to_upper(body);
    sign = to_upper(sign);
  }
  body = grouped(body, spec, base == 10 ? 3 : 4, sign.size());
  return pad(sign, body, spec, number_align(spec));
}

std::string format_text(const Value& value, const Spec& spec) {
  if (spec.type != 0 && spec.type != 's') fail_code(spec.type, value);
  if (spec.align == '=') {
    fail(ErrorKind::kValue, "'=' alignment not allowed in string format specifier");
  }
  if (spec.sign != 0) {
    fail(ErrorKind::kValue, "Sign not allowed in string format specifier");
  }
  if (spec.grouping != 0) {
    fail(ErrorKind::kValue, fmt::format("Cannot specify '{}' with 's'.", spec.grouping));
  }
  std::string text = value.text();
  if (spec.precision >= 0) text.resize(char_offset(text, spec.precision));
  return pad("", text, spec, spec.align == 0 ? '<' : spec.align);
}

}  // namespace

std::string format_float(double value, char type, int precision, bool alternate) {
  const bool upper = type == 'E' || type == 'F' || type == 'G';
  if (std::isnan(value)) return upper ? "NAN" : "nan";
  if (std::isinf(value)) return std::string(value < 0 ? "-" : "") + (upper ? "INF" : "inf");
  const std::string format = std::string(alternate ? "%#.*" : "%.*") + type;
  const int size = std::snprintf(nullptr, 0, format.c_str(), precision, value);
  std::string text(static_cast<std::size_t>(size) + 1, '\0');
  std::snprintf(text.data(), text.size(), format.c_str(), precision, value);
  text.pop_back();
  return text;
}

std::string format_value(const Value& value, std::string_view text) {
  if (text.empty()) return to_text(value);
  if (!value.is_str() && !value.is_number()) {
    fail_type(fmt::format("unsupported format string passed to {}.__format__", type_name(value)));
  }
  const Spec spec = parse_spec(text);
  if (value.is_str()) return format_text(value, spec);
  constexpr std::string_view kFloatTypes = "eEfFgGn%";
  if (value.is(Type::kFloat)) {
    if (spec.type != 0 && kFloatTypes.find(spec.type) == std::string_view::npos) {
      fail_code(spec.type, value);
    }
    return format_double(value, spec);
  }
  constexpr std::string_view kIntTypes = "bcdoxXn";
  if (spec.type == 0 || kIntTypes.find(spec.type) != std::string_view::npos) {
    return format_integer(value, spec);
  }
  if (kFloatTypes.find(spec.type) == std::string_view::npos) fail_code(spec.type, value);
  return format_double(value, spec);
}

}  // namespace headway::text::jinja
