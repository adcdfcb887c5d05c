// JSON parsing with limits on top of nlohmann-json, and the diff of two documents.
// Not for: reading values into structs (fields.cpp).
#include "headway/base/json.h"

#include <unordered_set>

#include <fmt/format.h>

#include "headway/base/error.h"
#include "headway/base/file_util.h"
#include "headway/base/text_util.h"

namespace headway {
namespace {

[[noreturn]] void fail(std::string_view where, const std::string& what, JsonErrors errors) {
  const std::string message = fmt::format("[{}] {}", where, what);
  if (errors == JsonErrors::kConfig) throw ConfigError(message);
  throw CheckpointError(message);
}

// "[json.exception.parse_error.101] parse error at line 1, column 2: …" without the tag.
std::string strip_tag(std::string_view message) {
  const size_t end = message.find("] ");
  return std::string(end == std::string_view::npos ? message : message.substr(end + 2));
}

}  // namespace

template <class J>
J parse_json(std::string_view text, std::string_view where, JsonErrors errors,
             const JsonLimits& limits) {
  if (static_cast<int64_t>(text.size()) > limits.max_bytes) {
    fail(where,
         fmt::format("size = {}, allowed at most {}", format_bytes(text.size()),
                     format_bytes(limits.max_bytes)),
         errors);
  }
  // The parser takes a NUL byte for the end of the text and would not see what follows it.
  if (const size_t nul = text.find('\0'); nul != text.npos) {
    fail(where, fmt::format("byte {} = NUL, allowed a JSON document", nul), errors);
  }
  std::vector<std::unordered_set<std::string>> keys;  // of the open objects
  const auto check = [&](int depth, typename J::parse_event_t event, J& parsed) {
    using Event = typename J::parse_event_t;
    if (event == Event::object_start || event == Event::array_start) {
      if (depth >= limits.max_depth) {
        fail(where,
             fmt::format("nesting depth = more than {}, allowed at most {}", limits.max_depth,
                         limits.max_depth),
             errors);
      }
      if (event == Event::object_start) keys.emplace_back();
    } else if (event == Event::object_end) {
      keys.pop_back();
    } else if (event == Event::key) {
      const std::string key = parsed.template get<std::string>();
      if (!keys.back().insert(key).second) {
        fail(where, fmt::format("key \"{}\" = given twice, allowed once", shorten(key)), errors);
      }
    }
    return true;
  };
  try {
    return J::parse(text.begin(), text.end(), check);
  } catch (const typename J::exception& error) {
    fail(where, shorten(strip_tag(error.what()), 300) + ", allowed a JSON document", errors);
  }
}

template <class J>
J parse_json_file(const std::string& path, JsonErrors errors, const JsonLimits& limits) {
  return parse_json<J>(read_file(path, limits.max_bytes), path, errors, limits);
}

std::string json_summary(const Json& value) {
  switch (value.type()) {
    case Json::value_t::object:
      return value.empty() ? "an empty mapping" : fmt::format("a mapping of {} keys", value.size());
    case Json::value_t::array:
      return value.empty() ? "an empty list" : fmt::format("a list of {} values", value.size());
    case Json::value_t::number_float:
      return format_double(value.get<double>());
    default:
      return shorten(value.dump(-1, ' ', false, Json::error_handler_t::replace));
  }
}

namespace {

void diff_into(const std::string& path, const Json* before, const Json* after,
               std::vector<std::string>& lines) {
  const auto show = [](const Json* value) {
    return value == nullptr ? "absent"
                            : value->dump(-1, ' ', false, Json::error_handler_t::replace);
  };
  if (before != nullptr && after != nullptr) {
    if (*before == *after) return;
    if (before->is_object() && after->is_object()) {
      const std::string prefix = path.empty() ? "" : path + ".";
      for (const auto& [key, value] : before->items()) {
        const auto other = after->find(key);
        diff_into(prefix + key, &value, other == after->end() ? nullptr : &*other, lines);
      }
      for (const auto& [key, value] : after->items()) {
        if (!before->contains(key)) diff_into(prefix + key, nullptr, &value, lines);
      }
      return;
    }
    if (before->is_array() && after->is_array()) {
      const size_t size = std::max(before->size(), after->size());
      for (size_t i = 0; i < size; ++i) {
        diff_into(fmt::format("{}[{}]", path, i), i < before->size() ? &(*before)[i] : nullptr,
                  i < after->size() ? &(*after)[i] : nullptr, lines);
      }
      return;
    }
  }
  lines.push_back(fmt::format("{}: {} -> {}", path, show(before), show(after)));
}

}  // namespace

std::vector<std::string> json_diff(const Json& before, const Json& after) {
  std::vector<std::string> lines;
  diff_into("", &before, &after, lines);
  return lines;
}

template Json parse_json<Json>(std::string_view, std::string_view, JsonErrors, const JsonLimits&);
template nlohmann::json parse_json<nlohmann::json>(std::string_view, std::string_view, JsonErrors,
                                                   const JsonLimits&);
template Json parse_json_file<Json>(const std::string&, JsonErrors, const JsonLimits&);
template nlohmann::json parse_json_file<nlohmann::json>(const std::string&, JsonErrors,
                                                        const JsonLimits&);

}  // namespace headway
