// The rules of Megatron arguments that concern more than one field, and what this build cannot run.
// Not for: single-field ranges (megatron_config.h).
#pragma once

#include <string>
#include <vector>

#include "headway/base/problems.h"
#include "headway/spec/megatron_config.h"
#include "headway/spec/model_spec.h"

namespace headway::spec {

/// Rules V1-V30 of spec/attention.md §1.2, as far as they concern a dense GPT; what is allowed
/// upstream and missing here adds a line to `unsupported`.
void check_megatron(const MegatronConfig& config, const std::string& path, Problems& problems,
                    std::vector<std::string>& unsupported);

/// The part of them about context parallelism, batch invariance and recomputation (V21-V26, V30).
void check_megatron_runtime(const MegatronConfig& config, const std::string& path,
                            Problems& problems);

/// Rule V31, for decoding with a static cache: local CUDA graphs need flash_decode there.
/// Errors: ConfigError.
void check_static_decode(const MegatronConfig& config);

/// Whether a value that may be null, false or empty asks for something.
inline bool asks_for(const Json& value) {
  return !value.is_null() && value != false && value != "";
}

/// A value like `normal`, `zero` or `constant:0.5`. Errors: false for any other text.
bool parse_gate_init(const std::string& text, GateSpec& gate);

}  // namespace headway::spec
