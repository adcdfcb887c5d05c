// See config_reader.h. Not for: what the keys mean (one file per family).
#include "headway/io/hf/config_reader.h"

#include <cmath>

#include <fmt/format.h>

#include "headway/base/error.h"
#include "headway/base/text_util.h"

namespace headway::io {
namespace {

std::string allowed_integer(IntegerRange range) {
  const IntegerRange open;
  if (range.max == open.max) {
    return range.min == open.min ? "an integer" : fmt::format("an integer >= {}", range.min);
  }
  return fmt::format("an integer in {}..{}", range.min, range.max);
}

std::string allowed_number(double min) {
  return min == ConfigReader::kAboveZero ? "a number > 0"
                                         : fmt::format("a number >= {}", format_double(min));
}

/// 2^63 is the first double beyond int64.
constexpr double kInt64End = 9223372036854775808.0;

}  // namespace

ConfigReader::ConfigReader(const Json& json, const std::string& file)
    : ConfigReader(json, "", std::make_shared<Shared>(Shared{Problems(Sources(file)), {}, {}})) {
  if (!json.is_object()) {
    throw ConfigError(
        fmt::format("[{}] document = {}, allowed an object", file, json_summary(json)));
  }
}

ConfigReader::ConfigReader(const Json& json, std::string path, std::shared_ptr<Shared> shared)
    : json_(&json), path_(std::move(path)), shared_(std::move(shared)) {
  shared_->objects[path_] = json_;
  shared_->read[path_];
}

void ConfigReader::mark(std::string_view key) { shared_->read[path_].emplace(key); }

const Json* ConfigReader::find(std::string_view key) {
  mark(key);
  const auto found = json_->find(std::string(key));
  return found == json_->end() || found->is_null() ? nullptr : &*found;
}

bool ConfigReader::has(std::string_view key) const {
  const auto found = json_->find(std::string(key));
  return found != json_->end() && !found->is_null();
}

void ConfigReader::problem(std::string_view key, std::string_view allowed) {
  const auto found = json_->find(std::string(key));
  const std::string got = found == json_->end() ? "missing" : json_summary(*found);
  shared_->problems.add_value(path_of(key), got, allowed);
}

void ConfigReader::problem_text(std::string_view key, std::string_view text) {
  shared_->problems.add(path_of(key), text);
}

std::optional<int64_t> ConfigReader::as_integer(std::string_view key, const Json& value,
                                                IntegerRange range) {
  std::optional<int64_t> result;
  if (value.is_number_unsigned()) {
    const auto number = value.get<uint64_t>();
    if (number <= static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) {
      result = static_cast<int64_t>(number);
    }
  } else if (value.is_number_integer()) {
    result = value.get<int64_t>();
  } else if (value.is_number_float()) {
    const double number = value.get<double>();
    if (std::trunc(number) == number && number >= -kInt64End && number < kInt64End) {
      result = static_cast<int64_t>(number);
    }
  }
  if (!result || *result < range.min || *result > range.max) {
    problem(key, allowed_integer(range));
    return std::nullopt;
  }
  return result;
}

std::optional<double> ConfigReader::as_number(std::string_view key, const Json& value, double min) {
  if (value.is_number()) {
    const double number = value.get<double>();
    if (std::isfinite(number) && number >= min) return number;
  }
  problem(key, allowed_number(min));
  return std::nullopt;
}

int64_t ConfigReader::required_integer(std::string_view key, IntegerRange range) {
  const Json* value = find(key);
  if (value == nullptr) {
    problem(key, allowed_integer(range));
    return range.min;
  }
  return as_integer(key, *value, range).value_or(range.min);
}

std::optional<int64_t> ConfigReader::optional_integer(std::string_view key, IntegerRange range) {
  const Json* value = find(key);
  return value == nullptr ? std::nullopt : as_integer(key, *value, range);
}

int64_t ConfigReader::integer(std::string_view key, IntegerRange range, int64_t otherwise) {
  return optional_integer(key, range).value_or(otherwise);
}

std::optional<double> ConfigReader::optional_number(std::string_view key, double min) {
  const Json* value = find(key);
  return value == nullptr ? std::nullopt : as_number(key, *value, min);
}

double ConfigReader::number(std::string_view key, double otherwise, double min) {
  return optional_number(key, min).value_or(otherwise);
}

double ConfigReader::required_number(std::string_view key, double min) {
  const Json* value = find(key);
  if (value == nullptr) {
    problem(key, allowed_number(min));
    return 1.0;
  }
  return as_number(key, *value, min).value_or(1.0);
}

bool ConfigReader::boolean(std::string_view key, bool otherwise) {
  const Json* value = find(key);
  if (value == nullptr) return otherwise;
  if (value->is_boolean()) return value->get<bool>();
  problem(key, "true | false");
  return otherwise;
}

std::string ConfigReader::text(std::string_view key, const std::string& otherwise) {
  const Json* value = find(key);
  if (value == nullptr) return otherwise;
  if (value->is_string()) return value->get<std::string>();
  problem(key, "a string");
  return otherwise;
}

std::optional<std::vector<std::string>> ConfigReader::texts(std::string_view key) {
  const Json* value = find(key);
  if (value == nullptr) return std::nullopt;
  std::vector<std::string> result;
  if (value->is_array()) {
    for (const Json& item : *value) {
      if (item.is_string()) result.push_back(item.get<std::string>());
    }
  }
  if (!value->is_array() || result.size() != value->size()) {
    problem(key, "a list of strings");
    return std::nullopt;
  }
  return result;
}

std::optional<ConfigReader> ConfigReader::object(std::string_view key) {
  const Json* value = find(key);
  if (value == nullptr) return std::nullopt;
  if (!value->is_object()) {
    problem(key, "an object");
    return std::nullopt;
  }
  return ConfigReader(*value, path_of(key), shared_);
}

std::optional<std::string> ConfigReader::nested_object() const {
  for (const auto& [key, value] : json_->items()) {
    if (value.is_object()) return key;
  }
  return std::nullopt;
}

bool ConfigReader::check_length(std::string_view key, size_t size, size_t layers, size_t extra) {
  if (size == layers || size == layers + extra) return true;
  problem(key, extra == 0 ? fmt::format("a list of {} (one per layer)", layers)
                          : fmt::format("a list of {} or {} (one per layer, or per layer and "
                                        "next-token layer)",
                                        layers, layers + extra));
  return false;
}

std::vector<double> ConfigReader::per_layer(std::string_view key, size_t layers, size_t extra,
                                            double otherwise, double min) {
  std::vector<double> result(layers + extra, otherwise);
  const Json* value = find(key);
  if (value == nullptr) return result;
  if (!value->is_array()) {
    if (const auto number = as_number(key, *value, min)) result.assign(layers + extra, *number);
    return result;
  }
  if (!check_length(key, value->size(), layers, extra)) return result;
  for (size_t i = 0; i < value->size(); ++i) {
    const Json& item = (*value)[i];
    if (item.is_null()) continue;
    if (!item.is_number() || !std::isfinite(item.get<double>()) || item.get<double>() < min) {
      shared_->problems.add_value(index_path(path_of(key), i), json_summary(item),
                                  allowed_number(min));
      continue;
    }
    result[i] = item.get<double>();
  }
  return result;
}

std::optional<std::vector<std::string>> ConfigReader::layer_texts(std::string_view key,
                                                                  size_t layers, size_t extra) {
  auto result = texts(key);
  if (!result || !check_length(key, result->size(), layers, extra)) return std::nullopt;
  return result;
}

std::vector<std::string> ConfigReader::unread_keys() const {
  std::vector<std::string> result;
  for (const auto& [path, object] : shared_->objects) {
    for (const auto& [key, value] : object->items()) {
      if (!shared_->read.at(path).contains(key)) result.push_back(join_path(path, key));
    }
  }
  return result;
}

}  // namespace headway::io
