// What the probes of attention modules share: how the file's arguments, masks and rotary tables
// become a module of ours.
// Not for: reading tensors by name (probe_input.h).
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "headway/engine/probe_input.h"
#include "headway/nn/attention.h"

namespace headway::engine {

/// ConfigError when layer_number is above num_layers.
void check_layer_number(const ProbeInput& input, const spec::MegatronConfig& config);

/// The factor of cos and sin that a given rotary_pos_emb lacks: YaRN's concentration, else 1.
double rotary_factor(const ProbeInput& input, const spec::MegatronConfig& config);

/// `rope` of the metadata as JSON or plain text; none when absent or "none".
std::optional<spec::RopeSpec> given_rope(const ProbeInput& input);

/// The smallest model that holds this mixer: Parameters are allocated for models.
spec::ModelSpec model_around(const spec::MixerSpec& mixer, int64_t hidden_size);

/// SelfAttention of the file with its parameters; the output bias is left out, as upstream returns
/// it apart.
struct ProbedAttention {
  spec::MegatronConfig config;
  spec::AttentionSpec attention;
  spec::ModelSpec model;
  std::unique_ptr<nn::Parameters> parameters;
  std::unique_ptr<nn::Attention> module;
};
ProbedAttention make_attention(const ProbeInput& input);

/// hidden_states [s,b,h] of the width of `config`. ShapeError otherwise.
at::Tensor hidden_states(const ProbeInput& input, const spec::MegatronConfig& config);

/// Sizes of the pieces in which a cached run gives its tokens: `prefill` of the metadata, then
/// ones. Errors: ConfigError (no prefill, or above length); ShapeError naming
/// inference_max_seq_length when max_sequence_length is below `length`.
std::vector<int64_t> prefill_steps(const ProbeInput& input, int64_t length);

/// [s,b,…] -> [b·s,…], one sequence after the other, and back.
at::Tensor packed_tokens(const at::Tensor& states_SBX);
at::Tensor unpacked_tokens(const at::Tensor& tokens_TX, int64_t batch);

}  // namespace headway::engine
