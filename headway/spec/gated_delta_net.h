// What follows from the sizes of a Gated DeltaNet mixer: widths of its projections and state.
// Not for: its fields (config/gated_delta_net_config.h).
#pragma once

#include "headway/spec/model_spec.h"

namespace headway::spec {

/// Rows of q (and of k), of v (and of z), and channels of the convolution q | k | v. ConfigError
/// when one does not fit 64 bits.
struct DeltaWidths {
  explicit DeltaWidths(const GatedDeltaNetSpec& spec);
  int64_t keys = 0;
  int64_t values = 0;
  int64_t conv = 0;
};

/// The mixer of one of `size` tensor-parallel ranks: its share of the heads. ConfigError unless
/// `size` divides both head counts.
GatedDeltaNetSpec delta_shard(const GatedDeltaNetSpec& spec, int64_t size);

}  // namespace headway::spec
