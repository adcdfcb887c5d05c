// int(), float() and round(). Not for: printing numbers (print.cpp, format_spec.cpp).
#include <charconv>
#include <cmath>

#include <fmt/format.h>

#include "headway/text/jinja/budget.h"
#include "headway/text/jinja/error.h"
#include "headway/text/jinja/format.h"
#include "headway/text/jinja/operators.h"
#include "headway/text/jinja/unicode.h"

namespace headway::text::jinja {
namespace {

std::string_view strip(std::string_view text) {
  std::size_t begin = text.size();
  std::size_t end = 0;
  for (std::size_t position = 0; position < text.size();) {
    const std::size_t start = position;
    if (is_space(next_char(text, position))) continue;
    begin = std::min(begin, start);
    end = position;
  }
  return begin < end ? text.substr(begin, end - begin) : std::string_view();
}

// `text` without underscores, each of which must stand between two digits.
std::optional<std::string> drop_underscores(std::string_view text, bool leading_allowed) {
  std::string digits;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '_') {
      digits += text[i];
      continue;
    }
    const bool after_digit =
        i > 0 ? std::isalnum(static_cast<unsigned char>(text[i - 1])) != 0 : leading_allowed;
    if (!after_digit || i + 1 == text.size() ||
        std::isalnum(static_cast<unsigned char>(text[i + 1])) == 0) {
      return std::nullopt;
    }
  }
  return digits;
}

int prefix_base(std::string_view text) {
  if (text.size() < 2 || text[0] != '0') return 0;
  switch (text[1]) {
    case 'x':
    case 'X':
      return 16;
    case 'o':
    case 'O':
      return 8;
    case 'b':
    case 'B':
      return 2;
    default:
      return 0;
  }
}

}  // namespace

std::optional<BigInt> parse_int(std::string_view text, int base) {
  if (base != 0 && (base < 2 || base > 36)) {
    fail(ErrorKind::kValue, "int() base must be >= 2 and <= 36, or 0");
  }
  text = strip(text);
  bool negative = false;
  if (!text.empty() && (text[0] == '+' || text[0] == '-')) {
    negative = text[0] == '-';
    text.remove_prefix(1);
  }
  bool prefixed = false;
  const int named = prefix_base(text);
  if (named != 0 && (base == 0 || base == named)) {
    base = named;
    prefixed = true;
    text.remove_prefix(2);
  }
  const auto digits = drop_underscores(text, prefixed);
  if (!digits || digits->empty()) return std::nullopt;
  if (base == 0) {
    base = 10;
    if ((*digits)[0] == '0' && digits->find_first_not_of('0') != std::string::npos) {
      return std::nullopt;
    }
  }
  auto value = BigInt::parse(*digits, base);
  return value && negative ? value->negated() : value;
}

std::optional<double> parse_float(std::string_view text) {
  text = strip(text);
  auto plain = drop_underscores(text, false);
  if (!plain || plain->empty()) return std::nullopt;
  std::string lower = to_lower(*plain);
  const bool negative = lower[0] == '-';
  if (lower[0] == '+' || lower[0] == '-') lower.erase(0, 1);
  if (lower == "inf" || lower == "infinity") return negative ? -HUGE_VAL : HUGE_VAL;
  if (lower == "nan") return std::nan("");
  if (lower.empty() || (!std::isdigit(static_cast<unsigned char>(lower[0])) && lower[0] != '.')) {
    return std::nullopt;
  }
  double value = 0.0;
  const auto parsed = std::from_chars(lower.data(), lower.data() + lower.size(), value);
  if (parsed.ptr != lower.data() + lower.size()) return std::nullopt;
  if (parsed.ec == std::errc::result_out_of_range) value = std::strtod(lower.c_str(), nullptr);
  if (parsed.ec == std::errc::invalid_argument) return std::nullopt;
  return negative ? -value : value;
}

namespace {

Value round_int(const Value& value, std::int64_t digits) {
  if (digits >= 0) return positive(value);
  if (-digits > 5000) return 0;
  const BigInt unit = BigInt(10).power(-digits);
  const BigInt number = value.as_big();
  auto [quotient, rest] = number.divide(unit);
  const auto order = rest + rest <=> unit;
  const bool odd = !quotient.divide(BigInt(2)).remainder.is_zero();
  if (order > 0 || (order == 0 && odd)) quotient = quotient + BigInt(1);
  return quotient * unit;
}

}  // namespace

Value round_value(const Value& value, std::int64_t digits) {
  if (value.is_integral()) return round_int(value, digits);
  if (!value.is(Type::kFloat)) {
    fail_type(fmt::format("type {} doesn't define __round__ method", type_name(value)));
  }
  const double number = value.as_float();
  if (!std::isfinite(number) || digits > 323) return number;
  if (digits < -308) return std::copysign(0.0, number);
  if (digits >= 0) {
    // printf rounds the exact binary value half to even, as Python does.
    return std::strtod(format_float(number, 'f', static_cast<int>(digits), false).c_str(), nullptr);
  }
  const double unit = std::pow(10.0, static_cast<double>(-digits));
  double quotient = number / unit;
  const double floor = std::floor(quotient);
  const double half = quotient - floor;
  quotient = half > 0.5 || (half == 0.5 && std::fmod(floor, 2.0) != 0.0) ? floor + 1.0 : floor;
  return quotient * unit;
}

}  // namespace headway::text::jinja
