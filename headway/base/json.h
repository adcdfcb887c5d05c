// JSON text to DOM with limits: size, depth, duplicate keys, one document, valid UTF-8.
// Not for: config field rules (fields.h) or files with millions of keys in the ordered DOM, whose
// look-up is linear: use `parse_json<nlohmann::json>` for those.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

namespace headway {

/// The DOM of configs and specs: keeps the order of keys.
using Json = nlohmann::ordered_json;

/// Which error a damaged document is: a config of the user, or a file of a checkpoint.
enum class JsonErrors { kConfig, kCheckpoint };

struct JsonLimits {
  int64_t max_bytes = int64_t{64} << 20;
  int max_depth = 100;
};

/// Parses one document. `where` (a file name) starts every message, with line and column.
/// Throws ConfigError or CheckpointError, as asked.
template <class J = Json>
J parse_json(std::string_view text, std::string_view where,
             JsonErrors errors = JsonErrors::kCheckpoint, const JsonLimits& limits = {});

/// Reads and parses a file. A missing file is a CheckpointError whatever `errors` says.
template <class J = Json>
J parse_json_file(const std::string& path, JsonErrors errors = JsonErrors::kCheckpoint,
                  const JsonLimits& limits = {});

/// "a string", "a list of 3 values", "true": how an error message shows what was found.
std::string json_summary(const Json& value);

/// One line per leaf that differs, `path: before -> after`; an absent side reads `absent`.
std::vector<std::string> json_diff(const Json& before, const Json& after);

extern template Json parse_json<Json>(std::string_view, std::string_view, JsonErrors,
                                      const JsonLimits&);
extern template nlohmann::json parse_json<nlohmann::json>(std::string_view, std::string_view,
                                                          JsonErrors, const JsonLimits&);
extern template Json parse_json_file<Json>(const std::string&, JsonErrors, const JsonLimits&);
extern template nlohmann::json parse_json_file<nlohmann::json>(const std::string&, JsonErrors,
                                                               const JsonLimits&);

}  // namespace headway
