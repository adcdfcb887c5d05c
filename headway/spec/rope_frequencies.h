// Inverse frequencies of every rotary kind.
// Not for: cosine tables (nn/rope.h) or their application (ops/rope.h).
#pragma once

#include <cstdint>
#include <vector>

#include "headway/spec/model_spec.h"

namespace headway::spec {

/// Pair frequencies w_j and the factor that multiplies both cos and sin.
struct RopeFrequencies {
  std::vector<double> inverse;  // one per rotated pair; proportional: K/2 entries, trailing zeros
  double attention_factor = 1.0;
};

/// YaRN's m(f, s) = 0.1·s·ln f + 1, and 1 for a factor f up to 1.
double yarn_magnitude(double factor, double mscale);

/// w_j = base^(-2j/rd), rd = int(K·fraction), then the kind's scaling (families.md §0.3,
/// attention.md §4.3/§4.4, gemma4.md §1.6). kFloat32: every step rounded to float32 as Hugging Face
/// computes them; kModelDtype: in double. Errors: ConfigError for an odd or zero rotated width.
/// Test: tests/unit/spec/rope_frequencies_test.cpp
RopeFrequencies rope_frequencies(const RopeSpec& rope, int64_t head_dim, RopePrecision precision);

/// Axis (0 time, 1 height, 2 width) whose position turns each of `pairs` rotated pairs of a rope
/// with sections (t, h, w). In runs: pair k < t time, k < t + h height, else width. Interleaved:
/// k % 3 = 1 and k / 3 < h height, k % 3 = 2 and k / 3 < w width, else time. The layout of channels
/// does not matter (upstream's interleaved channels with sections differ).
/// Source: spec/attention.md §4.5. Test: tests/unit/spec/rope_frequencies_test.cpp
std::vector<int64_t> section_axes(const RopeSpec& rope, int64_t pairs);

}  // namespace headway::spec
