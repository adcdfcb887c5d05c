// Small configs of each family for tests to bend. Not for: golden checkpoints (tests/golden/hf).
#pragma once

#include <functional>
#include <string>

#include "headway/base/error.h"
#include "headway/io/hf/family.h"

#include "tests/support/temp_folder.h"

namespace headway::io {

inline Json plain_config(const std::string& family) {
  return {{"model_type", family},
          {"hidden_size", 16},
          {"vocab_size", 32},
          {"num_hidden_layers", 3},
          {"num_attention_heads", 4},
          {"num_key_value_heads", 2},
          {"head_dim", 6},
          {"intermediate_size", 24},
          {"max_position_embeddings", 64},
          {"rms_norm_eps", 1e-5},
          {"rope_theta", 5000.0},
          {"tie_word_embeddings", false},
          {"sliding_window", nullptr}};
}

inline Json step_config() {
  return {{"model_type", "step3p5"},
          {"hidden_size", 16},
          {"vocab_size", 32},
          {"intermediate_size", 24},
          {"num_hidden_layers", 4},
          {"num_attention_heads", 2},
          {"num_attention_groups", 2},
          {"head_dim", 8},
          {"attention_other_setting",
           {{"attention_type", "sliding_attention"},
            {"num_attention_heads", 4},
            {"num_attention_groups", 2},
            {"head_dim", 8}}},
          {"layer_types",
           {"full_attention", "sliding_attention", "sliding_attention", "full_attention"}},
          {"sliding_window", 5},
          {"rope_theta", {5e4, 1e4, 1e4, 5e4}},
          {"partial_rotary_factors", {0.5, 1.0, 1.0, 0.5}},
          {"rope_scaling", nullptr},
          {"yarn_only_types", {"full_attention"}},
          {"moe_layers_enum", Json::array()},
          {"max_position_embeddings", 64},
          {"rms_norm_eps", 1e-5}};
}

inline Json config_of(const std::string& family) {
  return family == "step3p5" ? step_config() : plain_config(family);
}

inline spec::ModelSpec read_spec(const Json& config) {
  return read_config(find_family(config["model_type"].get<std::string>()), config, "config.json")
      .spec;
}

inline spec::AttentionSpec attention_of_layer(const spec::ModelSpec& spec, size_t layer) {
  return std::get<spec::AttentionSpec>(spec.layers.at(layer).mixer);
}

/// The message of the ConfigError that reading gives.
inline std::string config_error(const Json& config) {
  return testing_support::message_of<ConfigError>([&] { read_spec(config); });
}

}  // namespace headway::io
