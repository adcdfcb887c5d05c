// What llama, qwen3 and mistral share: a stack of equal layers with plain RMS norms, one rope, and
// the same keys for sizes. Each family adds its few differences.
// Not for: step3p5, whose layers differ.
#pragma once

#include <functional>

#include "headway/io/hf/family.h"
#include "headway/io/hf/reasons.h"
#include "headway/io/hf/rope_config.h"

namespace headway::io {

/// Keys whose absence the reference fills in differently per family.
struct PlainDefaults {
  int64_t max_positions = 2048;
  bool needs_kv_heads = false;  // absent num_key_value_heads is an error instead of num_heads
  bool needs_head_dim = false;  // absent head_dim is an error instead of hidden / heads
  bool has_dense_mlp = true;    // else there is no intermediate_size: every MLP will be replaced
  SingleRope rope;
};

/// The model with one layer repeated: no windows, no biases, no q/k norms yet.
spec::ModelSpec read_plain_decoder(ConfigReader& config, const PlainDefaults& defaults);

/// hidden_act: silu | gelu_pytorch_tanh | gelu | relu, and the reference's other names for them.
spec::Activation read_activation(ConfigReader& config);
std::string_view activation_name(spec::Activation activation);

/// pad_token_id as the embedding takes it: negative counts from the end, none without one.
std::optional<int64_t> read_padding_id(ConfigReader& config, int64_t vocab_size,
                                       std::optional<int64_t> otherwise = std::nullopt);

/// tie_word_embeddings and initializer_range.
void read_model_flags(ConfigReader& config, spec::ModelSpec& model, bool tied_otherwise = false);

void for_each_attention(spec::ModelSpec& model,
                        const std::function<void(size_t, spec::AttentionSpec&)>& change);

/// What sets a family apart from llama.
struct PlainTraits {
  bool has_qk_norm = false;
  bool norms_across_heads = false;  // q/k norms over all heads at once
  bool partial_rotation = false;
  spec::NormWeight norm = spec::NormWeight::kPlain;
  bool has_experts = false;  // some MLPs are mixtures: their reasons are the family's to give
};

/// Reasons common to these families: anything that differs between layers but the window.
void plain_reasons(const spec::ModelSpec& spec, const PlainTraits& traits, Reasons& reasons);
inline void plain_reasons(const spec::ModelSpec& spec, bool has_qk_norm, Reasons& reasons) {
  plain_reasons(spec, PlainTraits{.has_qk_norm = has_qk_norm}, reasons);
}

/// The first layer with softmax attention; null without one.
const spec::AttentionSpec* first_attention(const spec::ModelSpec& spec);

/// The dense MLP of a model, or one expert's, where a config needs its keys all the same.
spec::DenseMlpSpec dense_or_expert(const spec::ModelSpec& spec);

/// The keys that read_plain_decoder reads, of the first layer with attention.
Json write_plain_decoder(const spec::ModelSpec& spec);

/// The window that all windowed layers share; nothing without one or when they differ.
std::optional<int64_t> common_window(const spec::ModelSpec& spec);

}  // namespace headway::io
