// Filters on texts and numbers. Not for: sequences (filters_sequence.cpp), and map, select and
// their kin (filters_select.cpp).
#include <algorithm>
#include <cmath>

#include <fmt/format.h>

#include "headway/text/jinja/budget.h"
#include "headway/text/jinja/error.h"
#include "headway/text/jinja/format.h"
#include "headway/text/jinja/interpreter.h"
#include "headway/text/jinja/json_text.h"
#include "headway/text/jinja/operators.h"
#include "headway/text/jinja/params.h"
#include "headway/text/jinja/print.h"
#include "headway/text/jinja/registry.h"
#include "headway/text/jinja/slice.h"
#include "headway/text/jinja/text_search.h"
#include "headway/text/jinja/unicode.h"

namespace headway::text::jinja {
namespace {

// soft_str: text as it is, anything else printed.
Value soft(const Value& value) { return value.is_str() ? value : Value(to_text(value)); }

template <std::string (*kMap)(std::string_view)>
Value mapped(Interpreter&, Args& args) {
  const Value text = soft(Params(args, "filter", {"s"}, 1)[0]);
  return Value(kMap(text.text()), text.is_safe());
}

std::string title_words(std::string_view text) {
  std::string out;
  bool start = true;
  std::size_t word = 0;
  const auto flush = [&](std::size_t end) {
    if (end > word) out += to_lower(text.substr(word, end - word));
  };
  for (std::size_t position = 0; position < text.size();) {
    const std::size_t at = position;
    const char32_t c = next_char(text, position);
    const bool separator = is_space(c) || c == '-' || c == '(' || c == '{' || c == '[' || c == '<';
    if (separator) {
      flush(at);
      append_char(out, c);
      word = position;
    } else if (start) {
      out += to_upper(text.substr(at, position - at));
      word = position;
    }
    start = separator;
  }
  flush(text.size());
  return out;
}

Value title(Interpreter&, Args& args) {
  return title_words(soft(Params(args, "do_title", {"s"}, 1)[0]).text());
}

Value trim(Interpreter&, Args& args) {
  const Params params(args, "do_trim", {"value", "chars"}, 1);
  const Value text = soft(params[0]);
  const auto chars =
      params.is_set(1) ? std::optional<std::string_view>(params.text(1)) : std::nullopt;
  return Value(std::string(strip(text.text(), chars, Side::kBoth)), text.is_safe());
}

Value replaced(Interpreter& interpreter, Args& args) {
  const Params params(args, "do_replace", {"s", "old", "new", "count"}, 3);
  const std::int64_t limit = params.is_set(3) ? params.integer(3, -1) : -1;
  if (!interpreter.autoescape()) {
    return replace(to_text(params[0]), to_text(params[1]), to_text(params[2]), limit);
  }
  const bool safe =
      params[0].is_safe() || params[1].is_safe() || (params[2].is_safe() && !params[0].is_safe());
  const std::string text = safe ? escaped(params[0]) : to_text(params[0]);
  const std::string to = safe ? escaped(params[2]) : to_text(params[2]);
  return Value(replace(text, to_text(params[1]), to, limit), safe);
}

Value center(Interpreter&, Args& args) {
  const Params params(args, "do_center", {"value", "width"}, 1);
  const Value text = soft(params[0]);
  const std::int64_t width = params.integer(1, 80);
  const std::int64_t missing = std::max<std::int64_t>(0, width - length(text));
  charge(missing);
  const std::int64_t left = missing / 2 + (missing & width & 1);
  return Value(std::string(static_cast<std::size_t>(left), ' ') + text.text() +
                   std::string(static_cast<std::size_t>(missing - left), ' '),
               text.is_safe());
}

Value string(Interpreter&, Args& args) { return soft(Params(args, "soft_str", {"s"}, 1)[0]); }

Value mark_safe(Interpreter&, Args& args) {
  return Value(to_text(Params(args, "do_mark_safe", {"value"}, 1)[0]), true);
}

Value escape(Interpreter&, Args& args) {
  return Value(escaped(Params(args, "escape", {"s"}, 1)[0]), true);
}

Value force_escape(Interpreter&, Args& args) {
  return Value(escape_text(to_text(Params(args, "do_forceescape", {"value"}, 1)[0])), true);
}

Value indent(Interpreter&, Args& args) {
  const Params params(args, "do_indent", {"s", "width", "first", "blank"}, 1);
  std::string indention = "    ";
  if (params.has(1)) {
    if (params[1].is_str()) {
      indention = params.text(1);
    } else {
      const std::int64_t width = params.integer(1, 4);
      charge(width);
      indention = std::string(static_cast<std::size_t>(std::max<std::int64_t>(0, width)), ' ');
    }
  }
  const Value text = binary(BinaryOp::kAdd, params[0], Value("\n"));
  const auto lines = split_lines(text.text(), false);
  std::string out;
  for (std::size_t i = 0; i < lines.size(); ++i) {
    if (i > 0) out += '\n';
    const bool indented = i == 0 ? params.flag(2) : params.flag(3) || !lines[i].empty();
    if (indented) out += indention;
    out += lines[i];
    if (Budget* budget = Budget::active()) budget->check_size(std::ssize(out));
  }
  return Value(std::move(out), params[0].is_safe());
}

Value truncate(Interpreter&, Args& args) {
  const Params params(args, "do_truncate", {"s", "length", "killwords", "end", "leeway"}, 1);
  const std::int64_t limit = params.integer(1, 255);
  const std::string end = params.has(3) ? params.text(3) : "...";
  const std::int64_t leeway = params.is_set(4) ? params.integer(4, 5) : 5;
  if (limit < char_count(end) || leeway < 0) {
    fail(ErrorKind::kValue, fmt::format("expected length >= {}, got {}", char_count(end), limit));
  }
  if (length(params[0]) <= limit + leeway) return params[0];
  const Value cut = slice(params[0], {Value(), limit - char_count(end), Value()});
  if (params.flag(2)) return binary(BinaryOp::kAdd, cut, Value(end));
  const auto words = split(cut.text(), " ", 1, true);
  return binary(BinaryOp::kAdd, Value(std::string(words.front()), cut.is_safe()), Value(end));
}

Value word_count(Interpreter&, Args& args) {
  const Value text = soft(Params(args, "do_wordcount", {"s"}, 1)[0]);
  std::int64_t count = 0;
  bool inside = false;
  for (std::size_t position = 0; position < text.text().size();) {
    const bool word = is_word(next_char(text.text(), position));
    if (word && !inside) ++count;
    inside = word;
  }
  return count;
}

Value format(Interpreter&, Args& args) {
  const Value text = soft(args.positional.front());
  if (args.positional.size() > 1 && !args.keyword.empty()) {
    fail(ErrorKind::kRuntime, "can't handle positional and keyword arguments at the same time");
  }
  if (args.keyword.empty()) {
    return format_percent(text,
                          make_tuple(Values(args.positional.begin() + 1, args.positional.end())));
  }
  auto dict = std::make_shared<Dict>();
  for (const auto& [name, value] : args.keyword) dict->set(Value(name), value);
  return format_percent(text, dict);
}

// int(float(x)), or the default.
Value truncated(double number, const Value& otherwise) {
  return std::isfinite(number) ? Value(BigInt::from_double(number)) : otherwise;
}

Value to_int(Interpreter&, Args& args) {
  const Params params(args, "do_int", {"value", "default", "base"}, 1);
  const Value otherwise = params.get(1, 0);
  const Value& value = params[0];
  if (value.is_undefined()) fail_undefined(value);
  if (value.is_integral()) return positive(value);
  if (value.is(Type::kFloat)) {
    if (std::isinf(value.as_float())) {
      fail(ErrorKind::kArithmetic, "cannot convert float infinity to integer");
    }
    return truncated(value.as_float(), otherwise);
  }
  if (!value.is_str()) return otherwise;
  const std::int64_t base = params.integer(2, 10);
  if (base == 0 || (base >= 2 && base <= 36)) {
    if (const auto number = parse_int(value.text(), static_cast<int>(base))) return *number;
  }
  const auto number = parse_float(value.text());
  return number ? truncated(*number, otherwise) : otherwise;
}

Value to_float(Interpreter&, Args& args) {
  const Params params(args, "do_float", {"value", "default"}, 1);
  const Value& value = params[0];
  if (value.is_undefined()) fail_undefined(value);
  if (value.is(Type::kFloat)) return value;
  if (value.is_integral()) return binary(BinaryOp::kMul, value, 1.0);
  if (value.is_str()) {
    if (const auto number = parse_float(value.text())) return *number;
  }
  return params.get(1, 0.0);
}

Value rounded(Interpreter&, Args& args) {
  const Params params(args, "do_round", {"value", "precision", "method"}, 1);
  const std::string method = params.has(2) ? to_text(params[2]) : "common";
  const std::int64_t precision = params.integer(1, 0);
  if (method == "common") return round_value(params[0], precision);
  if (method != "ceil" && method != "floor") {
    fail(ErrorKind::kRuntime, "method must be common, ceil or floor");
  }
  const Value unit = binary(BinaryOp::kPow, 10, precision);
  const Value scaled = binary(BinaryOp::kMul, params[0], unit);
  if (!scaled.is_number()) fail_type("must be real number, not " + type_name(scaled));
  if (!scaled.is(Type::kFloat)) return binary(BinaryOp::kDiv, scaled, unit);
  const double number = scaled.as_float();
  const double whole = method == "ceil" ? std::ceil(number) : std::floor(number);
  if (!std::isfinite(whole)) {
    fail(ErrorKind::kArithmetic, "cannot convert float infinity to integer");
  }
  return binary(BinaryOp::kDiv, Value(BigInt::from_double(whole)), unit);
}

Value absolute(Interpreter&, Args& args) {
  const Value value = Params(args, "abs", {"/x"}, 1)[0];
  if (value.is(Type::kFloat)) return std::fabs(value.as_float());
  if (!value.is_integral()) {
    fail_type(fmt::format("bad operand type for abs(): '{}'", type_name(value)));
  }
  return value.as_big().is_negative() ? negate(value) : positive(value);
}

Value otherwise(Interpreter&, Args& args) {
  const Params params(args, "do_default", {"value", "default_value", "boolean"}, 1);
  const bool replace = params[0].is_undefined() || (params.flag(2) && !truth(params[0]));
  return replace ? params.get(1, Value("")) : params[0];
}

Value json(Interpreter&, Args& args) {
  const Params params(args, "tojson", {"x", "ensure_ascii", "indent", "separators", "sort_keys"},
                      1);
  JsonStyle style;
  style.ensure_ascii = params.flag(1);
  style.sort_keys = params.flag(4);
  if (params.is_set(2)) {
    style.item_separator = ",";
    if (params[2].is_str()) {
      style.indent = params.text(2);
    } else {
      const std::int64_t width = params.integer(2, 0);
      charge(width);
      style.indent = std::string(static_cast<std::size_t>(std::max<std::int64_t>(0, width)), ' ');
    }
  }
  if (params.is_set(3)) {
    const Values separators = to_values(params[3]);
    if (separators.size() != 2) {
      fail(ErrorKind::kValue,
           fmt::format("separators: expected 2 values, got {}", separators.size()));
    }
    if (!separators[0].is_str() || !separators[1].is_str()) fail_type("separators must be str");
    style.item_separator = separators[0].text();
    style.key_separator = separators[1].text();
  }
  return to_json(params[0], style);
}

std::string url_quoted(const Value& value, bool for_query) {
  constexpr std::string_view kPlain = "_.-~";
  std::string out;
  for (const char c : to_text(value)) {
    const auto byte = static_cast<unsigned char>(c);
    const bool plain =
        byte < 0x80 && (std::isalnum(byte) != 0 || kPlain.find(c) != std::string_view::npos ||
                        (c == '/' && !for_query));
    if (plain) {
      out += c;
    } else if (c == ' ' && for_query) {
      out += '+';
    } else {
      out += fmt::format("%{:02X}", byte);
    }
  }
  return out;
}

Value url_encode(Interpreter&, Args& args) {
  const Value value = Params(args, "do_urlencode", {"value"}, 1)[0];
  if (value.is_str() || !is_iterable(value)) return url_quoted(value, false);
  const Value pairs =
      value.is(Type::kDict) ? Value(std::make_shared<View>(value, ViewKind::kItems)) : value;
  std::string out;
  for (const Value& pair : to_values(pairs)) {
    const Values parts = to_values(pair);
    if (parts.size() != 2) fail(ErrorKind::kValue, "urlencode needs pairs");
    if (!out.empty()) out += '&';
    out += url_quoted(parts[0], true) + "=" + url_quoted(parts[1], true);
  }
  return out;
}

Value file_size(Interpreter& interpreter, Args& args) {
  const Params params(args, "do_filesizeformat", {"value", "binary"}, 1);
  Args one;
  one.positional.push_back(params[0]);
  if (params[0].is_str() && !parse_float(params[0].text())) {
    fail(ErrorKind::kValue, "could not convert string to float");
  }
  if (!params[0].is_str() && !params[0].is_number() && !params[0].is_undefined()) {
    fail_type("float() argument must be a string or a real number");
  }
  const double bytes = to_float(interpreter, one).as_float();
  const bool is_binary = params.flag(1);
  const double base = is_binary ? 1024.0 : 1000.0;
  if (bytes == 1.0) return "1 Byte";
  if (bytes < base) return fmt::format("{} Bytes", to_text(truncated(bytes, 0)));
  double unit = base * base;
  std::size_t prefix = 0;
  for (; prefix < 7 && bytes >= unit; ++prefix) unit *= base;
  return fmt::format("{} {}{}", format_float(base * bytes / unit, 'f', 1, false),
                     (is_binary ? "KMGTPEZY" : "kMGTPEZY")[prefix], is_binary ? "iB" : "B");
}

constexpr NamedNative kFilters[] = {
    {"filesizeformat", file_size},
    {"upper", mapped<to_upper>},
    {"lower", mapped<to_lower>},
    {"capitalize", mapped<to_capitalized>},
    {"title", title},
    {"trim", trim},
    {"replace", replaced},
    {"center", center},
    {"string", string},
    {"safe", mark_safe},
    {"e", escape},
    {"escape", escape},
    {"forceescape", force_escape},
    {"indent", indent},
    {"truncate", truncate},
    {"wordcount", word_count},
    {"format", format},
    {"int", to_int},
    {"float", to_float},
    {"round", rounded},
    {"abs", absolute},
    {"default", otherwise},
    {"d", otherwise},
    {"tojson", json},
    {"urlencode", url_encode},
};

}  // namespace

Native find_text_filter(std::string_view name) {
  for (const NamedNative& filter : kFilters) {
    if (filter.name == name) return filter.function;
  }
  return nullptr;
}

Native find_filter(std::string_view name) {
  for (const auto find : {find_text_filter, find_sequence_filter, find_selection_filter}) {
    if (const Native found = find(name)) return found;
  }
  return nullptr;
}

}  // namespace headway::text::jinja
