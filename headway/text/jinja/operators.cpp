// Arithmetic and concatenation with Python's rules and messages. Not for: comparison (compare.cpp).
#include "headway/text/jinja/operators.h"

#include <cmath>
#include <limits>

#include <fmt/format.h>

#include "headway/text/jinja/budget.h"
#include "headway/text/jinja/error.h"
#include "headway/text/jinja/format.h"
#include "headway/text/jinja/print.h"
#include "headway/text/jinja/unicode.h"

namespace headway::text::jinja {
namespace {

constexpr std::string_view kSymbols[] = {"+", "-", "*", "/", "//", "%", "** or pow()"};

[[noreturn]] void fail_operands(BinaryOp op, const Value& a, const Value& b) {
  fail_type(fmt::format("unsupported operand type(s) for {}: '{}' and '{}'",
                        kSymbols[static_cast<int>(op)], type_name(a), type_name(b)));
}

[[noreturn]] void fail_zero(const char* message) { fail(ErrorKind::kArithmetic, message); }

double to_double(const Value& value) {
  if (value.is(Type::kFloat)) return value.as_float();
  if (value.small_int()) return static_cast<double>(*value.small_int());
  const double result = value.as_big().to_double();
  if (std::isinf(result)) fail(ErrorKind::kArithmetic, "int too large to convert to float");
  return result;
}

double float_modulo(double a, double b) {
  if (b == 0.0) fail_zero("float modulo");
  const double rest = std::fmod(a, b);
  if (rest == 0.0) return std::copysign(0.0, b);
  return (rest < 0) != (b < 0) ? rest + b : rest;
}

double float_floor_divide(double a, double b) {
  if (b == 0.0) fail_zero("float floor division by zero");
  const double rest = std::fmod(a, b);
  double quotient = (a - rest) / b;
  if (rest != 0.0 && (rest < 0) != (b < 0)) quotient -= 1.0;
  if (quotient == 0.0) return std::copysign(0.0, a / b);
  const double floor = std::floor(quotient);
  return quotient - floor > 0.5 ? floor + 1.0 : floor;
}

double float_power(double a, double b) {
  if (a == 0.0 && b < 0) fail_zero("0.0 cannot be raised to a negative power");
  if (a < 0 && std::floor(b) != b && std::isfinite(a) && std::isfinite(b)) {
    fail(ErrorKind::kValue,
         "a negative number raised to a fraction; complex numbers do not exist here");
  }
  const double result = std::pow(a, b);
  if (std::isinf(result) && std::isfinite(a) && std::isfinite(b)) {
    fail(ErrorKind::kArithmetic, "(34, 'Numerical result out of range')");
  }
  return result;
}

Value float_binary(BinaryOp op, double a, double b) {
  switch (op) {
    case BinaryOp::kAdd:
      return a + b;
    case BinaryOp::kSub:
      return a - b;
    case BinaryOp::kMul:
      return a * b;
    case BinaryOp::kDiv:
      if (b == 0.0) fail_zero("float division by zero");
      return a / b;
    case BinaryOp::kFloorDiv:
      return float_floor_divide(a, b);
    case BinaryOp::kMod:
      return float_modulo(a, b);
    case BinaryOp::kPow:
      return float_power(a, b);
  }
  return {};
}

// a / b of integers beyond 2^53, rounded once: scaled so that the quotient has at least 66 bits.
double divide_exactly(const BigInt& a, const BigInt& b) {
  const std::int64_t shift = std::max<std::int64_t>(0, 66 - (a.bits() - b.bits()));
  auto [quotient, rest] = (a * BigInt(2).power(shift)).divide(b);
  if (!rest.is_zero()) quotient = quotient * BigInt(2) + BigInt(1);  // sticky bit below the last
  const double result =
      std::ldexp(quotient.to_double(), -static_cast<int>(shift + (rest.is_zero() ? 0 : 1)));
  if (std::isinf(result))
    fail(ErrorKind::kArithmetic, "integer division result too large for a float");
  return result;
}

Value int_divide(const Value& a, const Value& b) {
  if (!truth(b)) fail_zero("division by zero");
  constexpr std::int64_t kExact = std::int64_t{1} << 53;
  const auto is_exact = [](const Value& value) {
    return value.is(Type::kBool) ||
           (value.small_int() && *value.small_int() <= kExact && *value.small_int() >= -kExact);
  };
  if (is_exact(a) && is_exact(b)) {
    return static_cast<double>(*a.as_big().to_int64()) /
           static_cast<double>(*b.as_big().to_int64());
  }
  return divide_exactly(a.as_big(), b.as_big());
}

Value int_power(const Value& a, const Value& b) {
  const BigInt exponent = b.as_big();
  if (exponent.is_negative()) {
    if (!truth(a)) fail_zero("0.0 cannot be raised to a negative power");
    return float_power(to_double(a), to_double(b));
  }
  const auto small = exponent.to_int64();
  return a.as_big().power(small.value_or(std::numeric_limits<std::int64_t>::max() - 1));
}

// The operations that stay within 64 bits, most of those a template does.
bool small_binary(BinaryOp op, std::int64_t a, std::int64_t b, std::int64_t& result) {
  switch (op) {
    case BinaryOp::kAdd:
      return !__builtin_add_overflow(a, b, &result);
    case BinaryOp::kSub:
      return !__builtin_sub_overflow(a, b, &result);
    case BinaryOp::kMul:
      return !__builtin_mul_overflow(a, b, &result);
    default:
      return false;
  }
}

Value int_binary(BinaryOp op, const Value& a, const Value& b) {
  std::int64_t result = 0;
  if (a.small_int() && b.small_int() && small_binary(op, *a.small_int(), *b.small_int(), result)) {
    return result;
  }
  switch (op) {
    case BinaryOp::kAdd:
      return a.as_big() + b.as_big();
    case BinaryOp::kSub:
      return a.as_big() - b.as_big();
    case BinaryOp::kMul:
      return a.as_big() * b.as_big();
    case BinaryOp::kDiv:
      return int_divide(a, b);
    case BinaryOp::kFloorDiv:
      if (!truth(b)) fail_zero("integer division or modulo by zero");
      return a.as_big().divide(b.as_big()).quotient;
    case BinaryOp::kMod:
      if (!truth(b)) fail_zero("integer modulo by zero");
      return a.as_big().divide(b.as_big()).remainder;
    case BinaryOp::kPow:
      return int_power(a, b);
  }
  return {};
}

Value add_text(const Value& a, const Value& b) {
  const std::int64_t size = static_cast<std::int64_t>(a.text().size() + b.text().size());
  if (Budget::active() != nullptr) Budget::active()->check_size(size);
  if (a.is_safe() || b.is_safe()) return Value(escaped(a) + escaped(b), true);
  return a.text() + b.text();
}

Value add(const Value& a, const Value& b) {
  if (a.is_str() && b.is_str()) return add_text(a, b);
  if (a.is_sequence() && a.type() == b.type()) {
    charge(length(a) + length(b));
    Values items = a.object<Sequence>().items;
    const Values& more = b.object<Sequence>().items;
    items.insert(items.end(), more.begin(), more.end());
    return std::make_shared<Sequence>(a.type(), std::move(items));
  }
  if (a.is_str()) {
    fail_type(fmt::format("can only concatenate str (not \"{}\") to str", type_name(b)));
  }
  if (a.is_sequence()) {
    const std::string name = type_name(a);
    fail_type(fmt::format("can only concatenate {} (not \"{}\") to {}", name, type_name(b), name));
  }
  fail_operands(BinaryOp::kAdd, a, b);
}

Value repeat(const Value& value, const Value& times) {
  if (!times.is_integral()) {
    fail_type(fmt::format("can't multiply sequence by non-int of type '{}'", type_name(times)));
  }
  const BigInt big = times.as_big();
  const auto count =
      big.is_negative() ? std::int64_t{0} : big.to_int64().value_or(std::int64_t{1} << 62);
  const std::int64_t one = value.is_str()
                               ? std::ssize(value.text())
                               : length(value) * static_cast<std::int64_t>(sizeof(Value));
  std::int64_t bytes = 0;
  if (__builtin_mul_overflow(one, count, &bytes)) bytes = std::int64_t{1} << 62;
  if (Budget::active() != nullptr) Budget::active()->check_size(bytes);
  if (one == 0) return value;
  if (value.is_str()) {
    std::string text;
    text.reserve(static_cast<std::size_t>(bytes));
    for (std::int64_t i = 0; i < count; ++i) text += value.text();
    return Value(std::move(text), value.is_safe());
  }
  Values items;
  const Values& part = value.object<Sequence>().items;
  for (std::int64_t i = 0; i < count; ++i) items.insert(items.end(), part.begin(), part.end());
  return std::make_shared<Sequence>(value.type(), std::move(items));
}

bool can_repeat(const Value& value) { return value.is_str() || value.is_sequence(); }

}  // namespace

Value binary(BinaryOp op, const Value& a, const Value& b) {
  if (op == BinaryOp::kMod && a.is_str()) return format_percent(a, b);
  if (a.is_undefined()) fail_undefined(a);
  if (b.is_undefined()) fail_undefined(b);
  if (a.is_number() && b.is_number()) {
    if (a.is(Type::kFloat) || b.is(Type::kFloat))
      return float_binary(op, to_double(a), to_double(b));
    return int_binary(op, a, b);
  }
  if (op == BinaryOp::kAdd) return add(a, b);
  if (op == BinaryOp::kMul && can_repeat(a)) return repeat(a, b);
  if (op == BinaryOp::kMul && can_repeat(b)) return repeat(b, a);
  fail_operands(op, a, b);
}

Value negate(const Value& value) {
  if (value.is_undefined()) fail_undefined(value);
  if (value.is(Type::kFloat)) return -value.as_float();
  if (value.is_integral()) return value.as_big().negated();
  fail_type(fmt::format("bad operand type for unary -: '{}'", type_name(value)));
}

Value positive(const Value& value) {
  if (value.is_undefined()) fail_undefined(value);
  if (value.is(Type::kBool)) return value.as_bool() ? 1 : 0;
  if (value.is_number()) return value;
  fail_type(fmt::format("bad operand type for unary +: '{}'", type_name(value)));
}

std::string escape_text(std::string_view text) {
  std::string out;
  for (const char c : text) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '\'':
        out += "&#39;";
        break;
      case '"':
        out += "&#34;";
        break;
      default:
        out += c;
    }
  }
  return out;
}

std::string escaped(const Value& value) {
  return value.is_safe() ? value.text() : escape_text(to_text(value));
}

std::int64_t to_index(const Value& value, std::string_view what) {
  if (!value.is_integral()) {
    fail_type(fmt::format("'{}' object cannot be interpreted as an integer ({})", type_name(value),
                          what));
  }
  const auto index = value.as_big().to_int64();
  if (!index) fail(ErrorKind::kArithmetic, "Python int too large to convert to C ssize_t");
  return *index;
}

}  // namespace headway::text::jinja
