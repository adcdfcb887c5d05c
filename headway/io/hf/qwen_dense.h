// What the dense Qwen families share: a plain decoder with one window on the layers that
// layer_types names, or on those from max_window_layers on.
// Not for: families with experts or linear attention.
#pragma once

#include "headway/io/hf/plain_decoder.h"

namespace headway::io {

/// What sets qwen3 apart from qwen2.
struct QwenTraits {
  bool has_qk_norm = false;
  bool has_bias_key =
      false;  // attention_bias says whether projections have biases; else q, k, v do
  bool needs_head_dim = false;  // absent head_dim is an error instead of hidden / heads
};

spec::ModelSpec read_qwen_dense(ConfigReader& config, const QwenTraits& traits);
std::vector<std::string> qwen_dense_reasons(const spec::ModelSpec& spec, const QwenTraits& traits);
/// The keys that read_qwen_dense reads.
Json write_qwen_dense(const spec::ModelSpec& spec, const QwenTraits& traits);

}  // namespace headway::io
