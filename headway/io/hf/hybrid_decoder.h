// What qwen3_next and qwen3_5_text share: Gated DeltaNet layers and full layers whose queries and
// gates lie in one projection, zero-centred norms, one partial rope.
// Not for: the norms of olmo_hybrid, which stand elsewhere.
#pragma once

#include "headway/io/hf/family.h"
#include "headway/io/hf/plain_decoder.h"

namespace headway::io {

inline constexpr const char* kLinearAttention = "linear_attention";
inline constexpr const char* kFullAttention = "full_attention";

/// layer_types, or full_attention_interval: whether each layer is linear.
std::vector<bool> read_linear_layers(ConfigReader& config, size_t layers);

/// linear_num_key_heads, linear_key_head_dim, …: absent sizes are those of `defaults`, or an error
/// where that has 0; everything else is as there.
spec::GatedDeltaNetSpec read_delta_net(ConfigReader& config,
                                       const spec::GatedDeltaNetSpec& defaults);
/// The Gated DeltaNet layers that a family can hold: equal ones with silu behind the convolution
/// and a plain output norm.
struct DeltaForm {
  spec::DeltaGate gate = spec::DeltaGate::kSilu;
  double norm_eps = 1e-6;
  bool low_rank = false;  // projections of decay and gate
};
void delta_net_reasons(const spec::ModelSpec& spec, const DeltaForm& form, Reasons& reasons);
void write_delta_net(const spec::GatedDeltaNetSpec& mixer, Json& json);

/// The list that read_linear_layers reads.
Json layer_types(const spec::ModelSpec& spec);

/// The first linear layer; null when there is none.
const spec::GatedDeltaNetSpec* first_linear(const spec::ModelSpec& spec);

/// The model with dense MLPs; without `has_dense_mlp` they are there to be replaced. `mtp_layers`
/// full layers stand behind its stack, for split_mtp.
spec::ModelSpec read_hybrid_decoder(ConfigReader& config, size_t mtp_layers,
                                    bool has_dense_mlp = true);
/// Why a hybrid model cannot be written so; of mixtures of experts only what stands around them.
void hybrid_reasons(const spec::ModelSpec& spec, Reasons& reasons);
/// The keys that read_hybrid_decoder reads.
Json write_hybrid_decoder(const spec::ModelSpec& spec);

/// Rules of the full layers (q_proj holds per head [query | gate]) and of the convolution.
std::vector<Rule> hybrid_rules(const spec::ModelSpec& spec);

}  // namespace headway::io
