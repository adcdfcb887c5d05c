// One layer in words, the cells of describe_text, and the flat JSON row of describe_json.
// Not for: costs or anything that spans layers.
#pragma once

#include <string>

#include "headway/base/json.h"
#include "headway/spec/model_spec.h"

namespace headway::spec {

struct LayerWords {
  std::string mixer;      // attention
  std::string heads;      // 4, or 4:2 with fewer key/value heads
  std::string head_dim;   // 32, or 32/16 with another value head size
  std::string window;     // 128 | all
  std::string rope;       // 5e+06 x0.5, 1e+06 yarn x4 | none
  std::string gate;       // head_wise | none
  std::string kv_source;  // own, or the layer: of 13
  std::string mlp;        // 512 silu gated; both branches of a hybrid: … || …
  std::string norms;      // pre rms
};

LayerWords layer_words(const LayerSpec& layer);

/// block, mixer, num_heads, num_kv_heads, head_dim, v_head_dim, window, rope, gate, kv_source, mlp,
/// …: null where absent.
Json layer_json(const LayerSpec& layer);

}  // namespace headway::spec
