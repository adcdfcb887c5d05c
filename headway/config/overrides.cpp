// Finding the place an override names and putting its value there.
// Not for: checking that the place means anything.
#include "headway/config/overrides.h"

#include <charconv>
#include <optional>

#include <fmt/format.h>

#include "headway/base/error.h"
#include "headway/base/text_util.h"
#include "headway/config/yaml.h"

namespace headway::config {
namespace {

constexpr size_t kMaxSteps = 50;

// "a.b[2].c" -> a, b, 2, c; nothing when a step is empty.
std::optional<std::vector<std::string>> steps_of(std::string path) {
  std::string dotted;
  for (const char letter : path) {
    if (letter == '[') {
      dotted += '.';
    } else if (letter != ']') {
      dotted += letter;
    }
  }
  std::vector<std::string> steps = split(dotted, '.');
  if (steps.size() > kMaxSteps) return std::nullopt;
  for (const std::string& step : steps) {
    if (step.empty()) return std::nullopt;
  }
  return steps;
}

std::optional<size_t> index_of(const std::string& step, size_t size) {
  size_t index = 0;
  const char* end = step.data() + step.size();
  const auto result = std::from_chars(step.data(), end, index);
  if (result.ec != std::errc() || result.ptr != end || index >= size) return std::nullopt;
  return index;
}

// Walks to where `steps` point, making mappings; throws ConfigError when something is in the way.
Json& locate(Json& document, const std::vector<std::string>& steps, std::string& path) {
  Json* node = &document;
  for (const std::string& step : steps) {
    if (node->is_null()) *node = Json::object();
    if (node->is_object()) {
      path = join_path(path, step);
      node = &(*node)[step];
    } else if (node->is_array()) {
      const auto index = index_of(step, node->size());
      if (!index) {
        throw ConfigError(fmt::format("{} has no entry {}, allowed 0 to {}", path, shorten(step),
                                      static_cast<int64_t>(node->size()) - 1));
      }
      path = index_path(path, *index);
      node = &(*node)[*index];
    } else {
      throw ConfigError(fmt::format("{} = {}, which has no entry {}; replace it whole", path,
                                    json_summary(*node), shorten(step)));
    }
  }
  return *node;
}

}  // namespace

void apply_overrides(const std::vector<std::string>& overrides, Json& document, Sources& sources,
                     std::vector<std::string>& lines) {
  for (const std::string& override_text : overrides) {
    const std::string shown = "override " + shorten(replace_invalid_utf8(override_text));
    const size_t equals = override_text.find('=');
    if (equals == std::string::npos || equals == 0) {
      lines.push_back(fmt::format("[{}] text = no key and value, allowed a.b=value", shown));
      continue;
    }
    const auto steps = steps_of(override_text.substr(0, equals));
    if (!steps || find_invalid_utf8(override_text)) {
      lines.push_back(fmt::format("[{}] path = not a path, allowed names joined by dots", shown));
      continue;
    }
    try {
      Json value = parse_yaml(override_text.substr(equals + 1), shown);
      std::string path;
      locate(document, *steps, path) = std::move(value);
      sources.add_override(path, shown);
    } catch (const ConfigError& error) {
      const std::string what = error.what();
      lines.push_back(
          printable(what.starts_with("[") ? what : fmt::format("[{}] {}", shown, what)));
    }
  }
}

}  // namespace headway::config
