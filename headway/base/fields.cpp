// The parts of fields.h that are not templates: scalars, unknown keys, divisors.
// Not for: rules of a particular struct.
#include "headway/base/fields.h"

#include <cmath>

#include <fmt/format.h>

#include "headway/base/text_util.h"

namespace headway {

namespace {

std::string bound_text(double bound) {
  const bool whole = bound == std::floor(bound) && std::abs(bound) < 1e15;
  return whole ? std::to_string(static_cast<int64_t>(bound)) : format_double(bound);
}

}  // namespace

std::string range_text(const Rule& rule) {
  if (rule.low && rule.high) {
    return fmt::format("in {}{}, {}{}", rule.low_open ? '(' : '[', bound_text(*rule.low),
                       bound_text(*rule.high), rule.high_open ? ')' : ']');
  }
  if (rule.low) return fmt::format("{} {}", rule.low_open ? ">" : ">=", bound_text(*rule.low));
  if (rule.high) return fmt::format("{} {}", rule.high_open ? "<" : "<=", bound_text(*rule.high));
  return "";
}

namespace field_io {
namespace {

bool in_range(double value, const Rule& rule) {
  if (rule.low && (rule.low_open ? value <= *rule.low : value < *rule.low)) return false;
  if (rule.high && (rule.high_open ? value >= *rule.high : value > *rule.high)) return false;
  return true;
}

// The integer in `json`, also when written as 1e4; nothing when it is not one or does not fit.
std::optional<int64_t> as_integer(const Json& json) {
  if (json.is_number_unsigned()) {
    const uint64_t value = json.get<uint64_t>();
    if (value > static_cast<uint64_t>(INT64_MAX)) return std::nullopt;
    return static_cast<int64_t>(value);
  }
  if (json.is_number_integer()) return json.get<int64_t>();
  if (json.is_number_float()) {
    const double value = json.get<double>();
    constexpr double kExact = 9007199254740992.0;  // 2^53
    if (std::abs(value) <= kExact && value == std::floor(value)) {
      return static_cast<int64_t>(value);
    }
  }
  return std::nullopt;
}

// A quoted number is text; say so where a number was wanted.
std::string type_hint(const Json& json) {
  if (!json.is_string()) return "";
  const std::string& text = json.get_ref<const std::string&>();
  const bool number =
      !text.empty() && text.find_first_not_of("0123456789.eE+-") == std::string::npos;
  if (number) return "; text in quotes is not a number";
  if (text == "yes" || text == "no" || text == "on" || text == "off") {
    return "; write true or false";
  }
  return "";
}

}  // namespace

bool read_scalar(const Json& json, const std::string& path, const Rule& rule, bool& out,
                 Problems& problems) {
  if (!json.is_boolean()) {
    problems.add_value(path, json_summary(json), allowed_text<bool>(rule) + type_hint(json));
    return false;
  }
  out = json.get<bool>();
  return true;
}

bool read_scalar(const Json& json, const std::string& path, const Rule& rule, int64_t& out,
                 Problems& problems) {
  const std::optional<int64_t> value = as_integer(json);
  if (!value || !in_range(static_cast<double>(*value), rule)) {
    Rule plain = rule;
    plain.divisor_of = "";
    problems.add_value(path, json_summary(json), allowed_text<int64_t>(plain) + type_hint(json));
    return false;
  }
  out = *value;
  return true;
}

bool read_scalar(const Json& json, const std::string& path, const Rule& rule, double& out,
                 Problems& problems) {
  const double value = json.is_number() ? json.get<double>() : NAN;
  if (!std::isfinite(value) || !in_range(value, rule)) {
    const bool infinite = json.is_number() && !std::isfinite(value);
    problems.add_value(
        path, json_summary(json),
        (infinite ? "a finite number " + range_text(rule) : allowed_text<double>(rule)) +
            type_hint(json));
    return false;
  }
  out = value;
  return true;
}

bool read_scalar(const Json& json, const std::string& path, const Rule& rule, std::string& out,
                 Problems& problems) {
  if (!json.is_string()) {
    const bool scalar = json.is_number() || json.is_boolean();
    problems.add_value(path, json_summary(json),
                       allowed_text<std::string>(rule) + (scalar ? "; put it in quotes" : ""));
    return false;
  }
  const std::string& text = json.get_ref<const std::string&>();
  if (!rule.names.empty()) {
    const std::vector<std::string> names(rule.names.begin(), rule.names.end());
    if (std::find(names.begin(), names.end(), text) == names.end()) {
      report_unknown_name(path, json, allowed_text<std::string>(rule), names, problems);
      return false;
    }
  }
  if (rule.is_not_empty && text.empty()) {
    problems.add_value(path, "\"\"", "text that is not empty");
    return false;
  }
  out = text;
  return true;
}

void check_unknown_keys(const Json& json, const std::string& path,
                        const std::vector<std::string>& known, Problems& problems) {
  for (const auto& [key, value] : json.items()) {
    if (std::find(known.begin(), known.end(), key) != known.end()) continue;
    std::string text = "unknown key";
    if (const auto near = nearest_name(key, known)) {
      text += fmt::format("; did you mean {}?", *near);
    } else {
      text += fmt::format("; allowed {}", join(known, " | "));
    }
    problems.add(join_path(path, shorten(key)), text);
  }
}

void report_unknown_name(const std::string& path, const Json& got, const std::string& allowed,
                         const std::vector<std::string>& names, Problems& problems) {
  std::string text = allowed;
  if (got.is_string()) {
    if (const auto near = nearest_name(got.get_ref<const std::string&>(), names)) {
      text += fmt::format("; did you mean {}?", *near);
    }
  }
  problems.add_value(path, json_summary(got), text);
}

void DivisorRules::check(const std::string& path, Problems& problems) const {
  const auto value_of = [&](const std::string& name) -> std::optional<int64_t> {
    if (problems.touches(join_path(path, name))) return std::nullopt;
    for (const auto& [other, value] : integers) {
      if (other == name) return value;
    }
    return std::nullopt;
  };
  for (const auto& [name, whole_name] : rules) {
    const std::optional<int64_t> part = value_of(name);
    const std::optional<int64_t> whole = value_of(whole_name);
    if (!part || !whole || (*part != 0 && *whole % *part == 0)) continue;
    problems.add_value(join_path(path, name), std::to_string(*part),
                       fmt::format("a divisor of {} (= {})", whole_name, *whole));
  }
}

}  // namespace field_io
}  // namespace headway
