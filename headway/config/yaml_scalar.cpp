// How plain YAML scalars read, and YAML text written so that it reads back the same.
#include <charconv>
#include <limits>
#include <optional>

#include <fmt/format.h>

#include "headway/base/text_util.h"
#include "headway/config/yaml.h"

namespace headway::config {
namespace {

bool all_digits(std::string_view text) {
  return !text.empty() && text.find_first_not_of("0123456789") == std::string_view::npos;
}

std::string_view without_sign(std::string_view text) {
  return !text.empty() && (text[0] == '+' || text[0] == '-') ? text.substr(1) : text;
}

std::optional<Json> parse_integer(const std::string& text) {
  const std::string_view digits = without_sign(text);
  int base = 10;
  std::string_view body = digits;
  if (digits.starts_with("0x") || digits.starts_with("0o")) {
    if (digits.size() != text.size()) return std::nullopt;
    base = digits[1] == 'x' ? 16 : 8;
    body = digits.substr(2);
  } else if (!all_digits(digits)) {
    return std::nullopt;
  }
  const bool negative = text[0] == '-';
  const std::string number = (negative ? "-" : "") + std::string(body);
  int64_t value = 0;
  const auto [end, error] =
      std::from_chars(number.data(), number.data() + number.size(), value, base);
  if (end != number.data() + number.size()) return std::nullopt;
  if (error == std::errc()) return Json(value);
  // Too long for 64 bits: a float, which every integer field then refuses.
  return base == 10 ? std::optional<Json>(Json(std::strtod(number.c_str(), nullptr)))
                    : std::nullopt;
}

// [-+]? ( . digits | digits ( . digits? )? ) ( [eE] [-+]? digits )?
std::optional<Json> parse_float(const std::string& text) {
  const std::string_view body = without_sign(text);
  const double sign = text[0] == '-' ? -1.0 : 1.0;
  if (body == ".inf" || body == ".Inf" || body == ".INF") {
    return Json(sign * std::numeric_limits<double>::infinity());
  }
  if (text == ".nan" || text == ".NaN" || text == ".NAN") {
    return Json(std::numeric_limits<double>::quiet_NaN());
  }
  const size_t exponent_at = body.find_first_of("eE");
  const std::string_view mantissa = body.substr(0, exponent_at);
  if (exponent_at != std::string_view::npos &&
      !all_digits(without_sign(body.substr(exponent_at + 1)))) {
    return std::nullopt;
  }
  const size_t dot = mantissa.find('.');
  const std::string_view whole = mantissa.substr(0, dot);
  const std::string_view part = dot == std::string_view::npos ? "" : mantissa.substr(dot + 1);
  if (whole.empty() && part.empty()) return std::nullopt;
  if (!whole.empty() && !all_digits(whole)) return std::nullopt;
  if (!part.empty() && !all_digits(part)) return std::nullopt;
  std::string number(body);
  double value = 0;
  const auto result = std::from_chars(number.data(), number.data() + number.size(), value);
  if (result.ec == std::errc::result_out_of_range) value = std::strtod(number.c_str(), nullptr);
  return Json(sign * value);
}

bool is_plain_text(const std::string& text) {
  if (text.empty() || text.size() > 200) return false;
  constexpr std::string_view kInner =
      "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_./-+";
  if (text.find_first_not_of(kInner) != std::string::npos) return false;
  // A leading dash or dots may mean structure to other readers.
  if (text[0] == '-' || text[0] == '.' || text[0] == '+')
    return text.find('/') == 1 || text.starts_with("../");
  return resolve_plain_scalar(text).is_string();
}

std::string emit_text(const std::string& text) {
  if (is_plain_text(text)) return text;
  return Json(text).dump(-1, ' ', true, Json::error_handler_t::replace);
}

std::string emit_scalar(const Json& value) {
  if (value.is_string()) return emit_text(value.get_ref<const std::string&>());
  if (value.is_object()) return "{}";
  if (value.is_array()) return "[]";
  if (value.is_number_float() && !std::isfinite(value.get<double>())) {
    const double number = value.get<double>();
    return std::isnan(number) ? ".nan" : (number > 0 ? ".inf" : "-.inf");
  }
  return value.dump();
}

bool is_flow_list(const Json& value) {
  if (!value.is_array() || value.empty()) return false;
  for (const Json& element : value) {
    if (element.is_structured()) return false;
  }
  return true;
}

std::string emit_flow(const Json& list) {
  std::string text = "[";
  for (size_t i = 0; i < list.size(); ++i) {
    text += (i > 0 ? ", " : "") + emit_scalar(list[i]);
  }
  return text + "]";
}

void emit_into(const Json& value, size_t indent, std::string& out);

// What follows "key:" or "-": on the same line when it is small, else indented below.
void emit_child(const Json& value, size_t indent, std::string& out) {
  if (is_flow_list(value)) {
    out += " " + emit_flow(value) + "\n";
  } else if (!value.is_structured() || value.empty()) {
    out += " " + emit_scalar(value) + "\n";
  } else {
    out += "\n";
    emit_into(value, indent + 2, out);
  }
}

void emit_into(const Json& value, size_t indent, std::string& out) {
  const std::string pad(indent, ' ');
  if (value.is_object() && !value.empty()) {
    for (const auto& [key, child] : value.items()) {
      out += pad + emit_text(key) + ":";
      emit_child(child, indent, out);
    }
  } else if (value.is_array() && !value.empty() && !is_flow_list(value)) {
    for (const Json& child : value) {
      out += pad + "-";
      emit_child(child, indent, out);
    }
  } else {
    out += pad + (is_flow_list(value) ? emit_flow(value) : emit_scalar(value)) + "\n";
  }
}

}  // namespace

Json resolve_plain_scalar(const std::string& text) {
  if (text.empty() || text == "~" || text == "null" || text == "Null" || text == "NULL") {
    return Json(nullptr);
  }
  if (text == "true" || text == "True" || text == "TRUE") return Json(true);
  if (text == "false" || text == "False" || text == "FALSE") return Json(false);
  if (const auto integer = parse_integer(text)) return *integer;
  if (const auto number = parse_float(text)) return *number;
  return Json(text);
}

std::string emit_yaml(const Json& value) {
  std::string out;
  emit_into(value, 0, out);
  return out;
}

}  // namespace headway::config
