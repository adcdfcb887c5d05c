// What follows from a LatentAttentionSpec: widths of its projections and rows, its softmax scale,
// and which layers own an indexer.
// Not for: parameters (tensor_inventory.h) or Megatron's arguments (megatron_latent.h).
#pragma once

#include <cstdint>

#include "headway/base/problems.h"
#include "headway/spec/model_spec.h"

namespace headway::spec {

struct LatentWidths {
  explicit LatentWidths(const LatentAttentionSpec& mixer);
  int64_t head = 0;       // channels of a query and key head, D_n + D_r
  int64_t queries = 0;    // H·(D_n + D_r)
  int64_t up = 0;         // H·(D_n + V): keys without positions and values, head by head
  int64_t cached = 0;     // C + D_r: latent and rotated key of a token
  int64_t out = 0;        // H·V
  int64_t index_key = 0;  // channels of the indexer's key; 0 without one
};

/// What multiplies q·k: `scale`, or (D_n + D_r)^-½, with YaRN and its mscale_all_dim times
/// yarn_magnitude(factor, mscale_all_dim)². Source: DeepSeek-V3; spec/variants.md §3.3.
/// Test: tests/unit/spec/latent_attention_test.cpp
double latent_scale(const LatentAttentionSpec& mixer);

/// The LayerNorm of an indexer's keys.
NormSpec index_key_norm(const IndexerSpec& indexer);

/// A layer with shared_choice has a layer with an indexer before it.
void check_shared_choices(const ModelSpec& spec, Problems& problems);

}  // namespace headway::spec
