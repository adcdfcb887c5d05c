// The native front door: a `model:` config to the ModelSpec that states every layer.
// Not for: Hugging Face folders (io/hf) or Megatron arguments.
#pragma once

#include <cstdint>

#include "headway/config/model_config.h"
#include "headway/spec/model_spec.h"

namespace headway::spec {

/// Repeats the pattern into explicit layers and derives what a block leaves open: num_kv_heads = H,
/// head_dim = D / H, v_head_dim = K, scale = K^-0.5, norms from `model.norms`, rotary bases from
/// rotary_base_per_layer. Units:  vocab_size is that of the tokenizer; a larger model.vocab_size
/// pads the embedding to it. Errors: ConfigError with every problem of the config (rules V4, V12,
/// V14, V15, V19 of spec/attention.md);
///         ConfigError for model.hf, which io reads; those of read_megatron for model.megatron.
/// Source: Fast-LLM's block patterns (layers/block/config.py); Megatron-Core's
/// rotary_base_per_layer. Test:   tests/unit/spec/from_config_test.cpp
ModelSpec resolve(const config::ModelConfig& model, int64_t vocab_size);

}  // namespace headway::spec
