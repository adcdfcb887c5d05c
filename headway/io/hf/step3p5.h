// The two halves of family `step3p5`. Not for: other families.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "headway/io/hf/config_reader.h"
#include "headway/spec/model_spec.h"

namespace headway::io::step3p5 {

inline const std::string kFull = "full_attention";
inline const std::string kSliding = "sliding_attention";

/// transformers needs a number for pad_token_id in this family and 1 when it is absent, so that a
/// model without padding must be written as a number too.
inline constexpr int64_t kNoPadding = -1;

/// What is known before any layer is built.
struct Frame {
  size_t layers = 0;
  size_t extra = 0;  // next-token layers, whose entries follow in per-layer lists
  std::vector<std::string> types;  // of all of them
  bool has_types = false;
  size_t total() const { return layers + extra; }
};

/// See Family::read.
spec::ModelSpec read(ConfigReader& config);

/// The mixture of every layer, next-token layers included, that has one: moe_layers_enum or
/// mlp_layer_types, and the router, expert and shared-expert keys.
std::vector<std::optional<spec::MoeSpec>> read_moe(ConfigReader& config, const Frame& frame);

/// UnsupportedError when the config asks for what this build has no layers for: sinks.
void refuse_unsupported(ConfigReader& config);

}  // namespace headway::io::step3p5
