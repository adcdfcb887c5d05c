// A ModelSpec as JSON, back again, and the differences of two specs in words.
// Not for: Hugging Face config.json (io/hf) or run files (config/load.h).
#pragma once

#include <string>
#include <vector>

#include "headway/base/json.h"
#include "headway/spec/model_spec.h"

namespace headway::spec {

/// Every field of `spec`; a mixer or MLP stands under the name of its kind: {"mixer": {"attention":
/// {…}}}.
Json to_json(const ModelSpec& spec);

/// The inverse of to_json, validated. `source` is named in messages.
/// Errors: ConfigError with one line per problem. Test: tests/unit/spec/spec_json_test.cpp
ModelSpec spec_from_json(const Json& json, const std::string& source);

/// One line per field that differs, "model.layers[3].mixer.attention.window: 128 -> null". Empty
/// means equal models.
std::vector<std::string> diff(const ModelSpec& before, const ModelSpec& after);

}  // namespace headway::spec
