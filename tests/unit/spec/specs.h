// Small model configs that the spec tests share. Not for: models that are built (tests/support).
#pragma once

#include <string>

#include "headway/config/load.h"
#include "headway/spec/from_config.h"

namespace headway::spec {

/// Two blocks as in the design's run file, four layers.
inline constexpr const char* kMixedModel = R"(
model:
  hidden_size: 48
  tie_embeddings: true
  blocks:
    global:
      attention:
        num_heads: 4
        num_kv_heads: 2
        head_dim: 16
        gate: head_wise
        rope: {base: 5e6, fraction: 0.5}
      mlp: {intermediate_size: 64}
    local:
      attention:
        {num_heads: 6, num_kv_heads: 2, head_dim: 16, gate: head_wise, window: 8, rope: {base: 1e4}}
      mlp: {intermediate_size: 64}
  pattern: [global, local, local, local]
  num_layers: 6
)";

inline config::ModelConfig model_config(const std::vector<std::string>& overrides = {},
                                        const std::string& text = kMixedModel) {
  config::LoadOptions look;
  look.needs_training = false;
  return config::parse_run(text, "run.yaml", overrides, look).model;
}

inline ModelSpec mixed_spec(const std::vector<std::string>& overrides = {}) {
  return resolve(model_config(overrides), 256);
}

}  // namespace headway::spec
