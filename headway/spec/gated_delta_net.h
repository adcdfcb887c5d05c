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
  int64_t decays = 0;      // values of g a token: H, or H·K with decay_rank
  int64_t gate_rows = 0;   // of the input projection: of z, or of its latent
  int64_t decay_rows = 0;  // of the logits of g, or of their latent
};

/// The mixer of one of `size` tensor-parallel ranks: its share of the heads. ConfigError unless
/// `size` divides both head counts; UnsupportedError for low-rank projections.
GatedDeltaNetSpec delta_shard(const GatedDeltaNetSpec& spec, int64_t size);

}  // namespace headway::spec
