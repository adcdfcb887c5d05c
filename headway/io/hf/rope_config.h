// Rotary positions in Hugging Face configs: `rope_parameters` (new) and `rope_theta` +
// `rope_scaling` (published) become one RopeSpec, and back.
// Not for: frequencies (spec/rope_frequencies.h).
#pragma once

#include <optional>

#include "headway/io/hf/config_reader.h"
#include "headway/spec/model_spec.h"

namespace headway::io {

/// What a rope object falls back on when it leaves a value out.
struct RopeDefaults {
  double base = 10000.0;
  double fraction = 1.0;
  double max_positions = 0.0;                // stands in for original_max_position_embeddings
  std::optional<double> original_positions;  // top-level key: wins over the nested one
};

/// One rope object. Fields that its kind does not use keep their defaults, so that equal positions
/// compare equal. `dynamic` and `longrope` are UnsupportedErrors, other unknown kinds problems.
spec::RopeSpec read_rope(ConfigReader& rope, const RopeDefaults& defaults);

/// What a family with one rope for all layers assumes, and whether it may rotate part of a head.
struct SingleRope {
  double base = 10000.0;
  double fraction = 1.0;
  bool partial = false;
};

/// The rope of a family that has one for all layers. `rope_parameters` and `rope_scaling` may both
/// stand there if they say the same.
spec::RopeSpec read_single_rope(ConfigReader& config, int64_t max_positions,
                                const SingleRope& family = {});

/// `rope_scaling` of published configs: null for the plain kind.
Json rope_scaling_json(const spec::RopeSpec& rope);

/// The spec with every field that its kind does not use at its default.
spec::RopeSpec canonical_rope(const spec::RopeSpec& rope);

}  // namespace headway::io
