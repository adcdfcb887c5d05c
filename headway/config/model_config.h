// The `model:` part of a run file: named blocks, how they repeat, and everything around the stack.
// Not for: derived values; spec::resolve turns this into a ModelSpec that states every layer.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "headway/base/json.h"
#include "headway/config/adapter_config.h"
#include "headway/config/gated_delta_net_config.h"
#include "headway/config/latent_attention_config.h"
#include "headway/config/layer_extras.h"
#include "headway/config/model_parts.h"
#include "headway/config/moe_config.h"
#include "headway/config/mtp_config.h"

namespace headway::config {

/// Where norms stand in a block: before the mixer and the MLP, or before and after each of them.
enum class NormPlacement { kPre, kSandwich };

/// Norms of the whole model, the final one included.
struct NormsConfig {
  static constexpr std::string_view kShorthand = "placement";
  NormPlacement placement = NormPlacement::kPre;
  NormKind kind = NormKind::kRms;
  NormWeight weight = NormWeight::kPlain;
  double eps = 1e-5;
  bool bias = false;
  bool operator==(const NormsConfig&) const = default;

  template <class V>
  static void fields(V& v) {
    v.field("placement", &NormsConfig::placement,
            "before mixer and MLP, or before and after (sandwich)");
    v.field("kind", &NormsConfig::kind, "root mean square, or mean and variance");
    v.field("weight", &NormsConfig::weight, "how the weight is applied");
    v.field("eps", &NormsConfig::eps, "added to the mean square", at_least(0));
    v.field("bias", &NormsConfig::bias, "adds a bias (kind layer only)");
  }
};

/// Norms of one block; what is not set is taken from `model.norms`.
struct NormsOverride {
  static constexpr std::string_view kShorthand = "placement";
  std::optional<NormPlacement> placement;
  std::optional<NormKind> kind;
  std::optional<NormWeight> weight;
  std::optional<double> eps;
  std::optional<bool> bias;
  // Which norms the block has, whatever the placement says.
  std::optional<bool> pre_mixer;
  std::optional<bool> post_mixer;
  std::optional<bool> pre_mlp;
  std::optional<bool> post_mlp;
  bool operator==(const NormsOverride&) const = default;

  template <class V>
  static void fields(V& v) {
    v.field("placement", &NormsOverride::placement, "instead of model.norms.placement");
    v.field("kind", &NormsOverride::kind, "instead of model.norms.kind");
    v.field("weight", &NormsOverride::weight, "instead of model.norms.weight");
    v.field("eps", &NormsOverride::eps, "instead of model.norms.eps", at_least(0));
    v.field("bias", &NormsOverride::bias, "instead of model.norms.bias");
    v.field("pre_mixer", &NormsOverride::pre_mixer, "norm before the mixer; none = by placement");
    v.field("post_mixer", &NormsOverride::post_mixer, "norm after the mixer; none = by placement");
    v.field("pre_mlp", &NormsOverride::pre_mlp, "norm before the MLP; none = by placement");
    v.field("post_mlp", &NormsOverride::post_mlp, "norm after the MLP; none = by placement");
  }
};

struct AttentionConfig {
  int64_t num_heads = 0;
  std::optional<int64_t> num_kv_heads;  // none = num_heads
  std::optional<int64_t> head_dim;      // none = hidden_size / num_heads
  std::optional<int64_t> v_head_dim;    // none = head_dim
  GateConfig gate;
  std::optional<bool> gate_bias;  // none = qkv_bias, or true when gate.init is constant
  MaskKind mask = MaskKind::kCausal;
  std::optional<int64_t> window;
  std::optional<int64_t> window_ahead;
  std::optional<RopeConfig> rope = RopeConfig{};
  std::optional<double> scale;  // none = head_dim^-0.5
  std::optional<double> logit_softcap;
  SinkKind sinks = SinkKind::kNone;
  double dropout = 0.0;
  bool qk_norm = false;
  std::optional<HeadNorm> q_norm;  // none = by qk_norm
  std::optional<HeadNorm> k_norm;  // none = by qk_norm
  HeadNorm v_norm = HeadNorm::kOff;
  bool qk_norm_across_heads = false;
  bool shared_key_value = false;
  bool bidirectional_spans = false;
  bool qkv_bias = false;
  bool output_bias = false;
  bool operator==(const AttentionConfig&) const = default;

  template <class V>
  static void fields(V& v) {
    using A = AttentionConfig;
    v.field("num_heads", &A::num_heads, "query heads", between(1, kMaxHeads).required());
    v.field("num_kv_heads", &A::num_kv_heads, "key/value heads; none = num_heads",
            between(1, kMaxHeads).divides("num_heads"));
    v.field("head_dim", &A::head_dim,
            "channels of a query and key head; none = hidden_size / num_heads",
            between(1, kMaxHeadDim));
    v.field("v_head_dim", &A::v_head_dim, "channels of a value head; none = head_dim",
            between(1, kMaxHeadDim));
    v.field("gate", &A::gate, "sigmoid gate on the attention output");
    v.field("gate_bias", &A::gate_bias,
            "bias of the gate rows; none = qkv_bias, true for init constant");
    v.field("mask", &A::mask, "keys a query sees: those up to itself, or all of its sequence");
    v.field("window", &A::window, "tokens seen, the query itself included; none = all",
            between(1, kMaxTokens));
    v.field("window_ahead", &A::window_ahead,
            "tokens seen after the query (mask none only); none = all", between(0, kMaxTokens));
    v.field("rope", &A::rope, "rotary positions; none = no positions");
    v.field("scale", &A::scale, "multiplies q·k; none = head_dim^-0.5", above(0));
    v.field("logit_softcap", &A::logit_softcap, "c: scores become c·tanh(score / c)", above(0));
    v.field("sinks", &A::sinks, "extra softmax logit per head: 0, or learnable");
    v.field("dropout", &A::dropout, "part of the probabilities dropped in training",
            from_below(0, 1));
    v.field("qk_norm", &A::qk_norm, "norm over each query and key head before the rotation");
    v.field("q_norm", &A::q_norm, "norm of each query head; none = as qk_norm says");
    v.field("k_norm", &A::k_norm, "norm of each key head; none = as qk_norm says");
    v.field("v_norm", &A::v_norm, "norm of each value head; values are never rotated");
    v.field("shared_key_value", &A::shared_key_value,
            "one projection gives keys and values; norms and rotation follow, each for its own");
    v.field("bidirectional_spans", &A::bidirectional_spans,
            "tokens of one image see each other, later ones too");
    v.field("qk_norm_across_heads", &A::qk_norm_across_heads,
            "one norm over the channels of all heads instead of one for each head");
    v.field("qkv_bias", &A::qkv_bias, "biases of the query, key and value projections");
    v.field("output_bias", &A::output_bias, "bias of the output projection");
  }
};

struct BlockConfig {
  std::optional<AttentionConfig> attention;  // one of these three
  std::optional<GatedDeltaNetConfig> gated_delta_net;
  std::optional<LatentAttentionConfig> latent_attention;
  std::optional<MlpConfig> mlp;  // this, moe, or both with hybrid
  std::optional<MoeConfig> moe;
  std::optional<HybridConfig> hybrid;  // both
  std::optional<bool> per_layer_input;
  NormsOverride norms;
  bool layer_scalar = false;
  bool operator==(const BlockConfig&) const = default;

  template <class V>
  static void fields(V& v) {
    v.field("attention", &BlockConfig::attention, "the mixer, unless it is another of these");
    v.field("gated_delta_net", &BlockConfig::gated_delta_net,
            "a mixer whose state does not grow with the tokens");
    v.field("latent_attention", &BlockConfig::latent_attention,
            "a mixer that caches one latent a token (MLA), with an indexer sparse (DSA)");
    v.field("mlp", &BlockConfig::mlp, "the feed-forward part, unless it is moe");
    v.field("moe", &BlockConfig::moe, "a mixture of experts as feed-forward part");
    v.field("hybrid", &BlockConfig::hybrid,
            "with mlp and moe: both in parallel, their results added; norms of the branches");
    v.field("per_layer_input", &BlockConfig::per_layer_input,
            "whether the block takes part in model.per_layer_embedding; none = if there is one");
    v.field("norms", &BlockConfig::norms, "differences from model.norms");
    v.field("layer_scalar", &BlockConfig::layer_scalar,
            "a stored scalar multiplies the block's output");
  }
};

struct ModelConfig {
  std::optional<int64_t> hidden_size;  // always given where blocks are
  std::string tokenizer = "bytes";     // "bytes", or a folder with tokenizer.json
  std::optional<int64_t> vocab_size;   // none = that of the tokenizer
  bool tie_embeddings = false;
  int64_t max_positions = 8192;
  std::map<std::string, BlockConfig> blocks;
  std::vector<std::string> pattern;  // block names, repeated until num_layers
  std::optional<int64_t> num_layers;
  std::vector<std::string> layers;  // block name of every layer, instead of pattern + num_layers
  /// One base a layer, then one a depth of mtp; null for a layer without rotary positions; replaces
  /// attention.rope.base.
  std::optional<std::vector<std::optional<double>>> rotary_base_per_layer;
  std::optional<MtpConfig> mtp;
  int64_t num_kv_shared_layers = 0;
  /// Layer whose keys and values each layer reads, null for its own; instead of the number.
  std::optional<std::vector<std::optional<int64_t>>> kv_source_per_layer;
  NormsConfig norms;
  std::optional<PerLayerEmbeddingConfig> per_layer_embedding;
  std::optional<int64_t> padding_id;
  double embedding_scale = 1.0;
  ScaleRounding embedding_scale_rounding = ScaleRounding::kExact;
  std::optional<double> final_softcap;
  InitConfig init;
  std::optional<std::string> hf;         // a Hugging Face folder instead of blocks; read by io
  std::optional<AdapterConfig> adapter;  // trained instead of the weights of hf
  Json megatron;  // Megatron-style arguments instead of blocks; null when absent
  bool operator==(const ModelConfig&) const = default;

  template <class V>
  static void fields(V& v) {
    using M = ModelConfig;
    v.field("hidden_size", &M::hidden_size, "width of the residual stream", between(1, kMaxWidth));
    v.field("tokenizer", &M::tokenizer, "`bytes`, or a folder with tokenizer.json",
            Rule().not_empty());
    v.field("vocab_size", &M::vocab_size, "rows of the embedding; none = as the tokenizer has",
            between(1, kMaxVocab));
    v.field("tie_embeddings", &M::tie_embeddings, "the head is the embedding transposed");
    v.field("max_positions", &M::max_positions, "longest context the model is meant for",
            between(1, kMaxTokens));
    v.field("blocks", &M::blocks, "what a layer can be, by name");
    v.field("pattern", &M::pattern, "block names, repeated until num_layers");
    v.field("num_layers", &M::num_layers, "layers of the stack", between(1, kMaxLayers));
    v.field("layers", &M::layers, "block name of every layer, instead of pattern and num_layers");
    v.field("rotary_base_per_layer", &M::rotary_base_per_layer,
            "rotary base of every layer, null for one without rotary positions", above(0));
    v.field("mtp", &M::mtp, "multi-token prediction: layers that predict further tokens");
    v.field("num_kv_shared_layers", &M::num_kv_shared_layers,
            "so many last layers read keys and values of the last earlier layer with the same key "
            "heads, rotary positions and window",
            between(0, kMaxLayers));
    v.field("kv_source_per_layer", &M::kv_source_per_layer,
            "layer whose keys and values each layer reads, null for its own; instead of "
            "num_kv_shared_layers",
            between(0, kMaxLayers));
    v.field("norms", &M::norms, "norms of the whole model");
    v.field("per_layer_embedding", &M::per_layer_embedding,
            "a second embedding with channels for every layer");
    v.field("padding_id", &M::padding_id,
            "token whose embedding rows get no gradient from look-ups; none = all learn",
            at_least(0));
    v.field("embedding_scale", &M::embedding_scale, "multiplies the embedding", above(0));
    v.field("embedding_scale_rounding", &M::embedding_scale_rounding,
            "keep the scale exact, or round it to the weights' dtype");
    v.field("final_softcap", &M::final_softcap, "c: logits become c·tanh(logits / c)", above(0));
    v.field("init", &M::init, "how weights are drawn");
    v.field("hf", &M::hf, "folder of a Hugging Face checkpoint, instead of blocks",
            Rule().not_empty());
    v.field("adapter", &M::adapter,
            "low-rank adapter to train instead of the weights of hf; none = the weights");
    v.field("megatron", &M::megatron, "Megatron-style arguments, instead of blocks");
  }
};

}  // namespace headway::config

namespace headway {

template <>
struct EnumTable<config::NormPlacement> {
  static constexpr auto kEntries = std::to_array<EnumEntry<config::NormPlacement>>(
      {{config::NormPlacement::kPre, "pre"}, {config::NormPlacement::kSandwich, "sandwich"}});
};

}  // namespace headway
