// What qwen3_next and qwen3_5_text share: Gated DeltaNet layers and full layers whose queries and
// gates lie in one projection, zero-centred norms, one partial rope.
// Not for: olmo_hybrid, whose norms stand elsewhere.
#pragma once

#include "headway/io/hf/family.h"
#include "headway/io/hf/plain_decoder.h"

namespace headway::io {

inline constexpr const char* kLinearAttention = "linear_attention";
inline constexpr const char* kFullAttention = "full_attention";

/// layer_types, or full_attention_interval: whether each layer is linear.
std::vector<bool> read_linear_layers(ConfigReader& config, size_t layers);

/// linear_num_key_heads, linear_key_head_dim, … with the given output norm.
spec::GatedDeltaNetSpec read_delta_net(ConfigReader& config, const spec::NormSpec& norm);
void write_delta_net(const spec::GatedDeltaNetSpec& mixer, Json& json);

/// The first layer of each kind; null when there is none.
const spec::AttentionSpec* first_full(const spec::ModelSpec& spec);
const spec::GatedDeltaNetSpec* first_linear(const spec::ModelSpec& spec);

/// The model with dense MLPs.
spec::ModelSpec read_hybrid_decoder(ConfigReader& config);
/// Why a dense hybrid model cannot be written so.
void hybrid_reasons(const spec::ModelSpec& spec, Reasons& reasons);
/// The keys that read_hybrid_decoder reads.
Json write_hybrid_decoder(const spec::ModelSpec& spec);

/// Rules of the full layers (q_proj holds per head [query | gate]) and of the convolution.
std::vector<Rule> hybrid_rules(const spec::ModelSpec& spec);

}  // namespace headway::io
