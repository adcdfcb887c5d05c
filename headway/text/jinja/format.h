// Python's three ways to format: '%d' % x, '{:d}'.format(x) and int(), float(), round() of text and
// numbers. Not for: str() and repr() (print.h).
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "headway/text/jinja/objects.h"
#include "headway/text/jinja/value.h"

namespace headway::text::jinja {

/// format % arguments. Safe formats escape their arguments and stay safe.
Value format_percent(const Value& format, const Value& arguments);

/// format.format(*args). Fields may name attributes and items, which the sandbox guards.
Value format_braces(Interpreter& interpreter, const Value& format, const Args& args);

/// format(value, spec): the part after the colon of a field.
std::string format_value(const Value& value, std::string_view spec);

/// A number in one of e, f, g (or upper case) with `precision` digits; inf and nan by name.
std::string format_float(double value, char type, int precision, bool alternate);

/// int(text, base): white space around, sign, prefix, single underscores between digits.
std::optional<BigInt> parse_int(std::string_view text, int base);
/// float(text), inf and nan included.
std::optional<double> parse_float(std::string_view text);

/// round(value, digits): halves to even, on the exact decimal value.
Value round_value(const Value& value, std::int64_t digits);

}  // namespace headway::text::jinja
