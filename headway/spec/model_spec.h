// ModelSpec: what every layer of a model is, as plain data. The hub between front doors (native
// YAML, Hugging Face config.json, Megatron arguments) and everything that builds, counts, loads or
// runs a model. Not for: tensors, defaults that depend on a family, or anything that is not known
// before weights are read. Legend: H query heads, G key/value heads, K head dim, V value head dim,
// D hidden, F ffn.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "headway/base/enum_table.h"
#include "headway/config/gated_delta_net_config.h"
#include "headway/config/latent_attention_config.h"
#include "headway/config/model_parts.h"
#include "headway/config/moe_config.h"
#include "headway/config/mtp_config.h"
#include "headway/spec/per_layer_embedding.h"

namespace headway::spec {

// The parts that hold nothing derived are shared with the config structs, as are their enums.
using config::Activation;
using config::BalanceKind;
using config::DeltaGate;
using config::DropPolicy;
using config::GateInit;
using config::GateKind;
using config::IndexLossKeys;
using config::IndexPrecision;
using config::MaskKind;
using config::MtpHidden;
using config::NormKind;
using config::NormWeight;
using config::RopeKind;
using config::RopeLayout;
using config::RouterScore;
using config::ScaleRounding;
using config::SinkKind;
using DenseMlpSpec = config::MlpConfig;
using GatedDeltaNetSpec = config::GatedDeltaNetConfig;
using GateSpec = config::GateConfig;
using IndexerSpec = config::IndexerConfig;
using InitSpec = config::InitConfig;
using LatentAttentionSpec = config::LatentAttentionConfig;
using MoeSpec = config::MoeConfig;
using RouterSpec = config::RouterConfig;
using CapacitySpec = config::CapacityConfig;
using SharedExpertSpec = config::SharedExpertConfig;
using NormSpec = config::NormConfig;
using RopeSpec = config::RopeConfig;

struct AttentionSpec {
  int64_t num_heads = 0;     // H
  int64_t num_kv_heads = 0;  // G, divides H
  int64_t head_dim = 0;      // K
  int64_t v_head_dim = 0;    // V
  std::optional<RopeSpec> rope;
  MaskKind mask = MaskKind::kCausal;
  std::optional<int64_t> window;        // tokens seen, the query itself included
  std::optional<int64_t> window_ahead;  // tokens seen after the query; mask none only
  double scale = 0.0;                   // multiplies q·k
  std::optional<double> logit_softcap;
  SinkKind sinks = SinkKind::kNone;
  double dropout = 0.0;  // of probabilities, in training
  std::optional<NormSpec> q_norm;
  std::optional<NormSpec> k_norm;
  std::optional<NormSpec> v_norm;     // of each value head; values are never rotated
  bool shared_key_value = false;      // values are the key projection, before its norm and rotation
  std::optional<int64_t> kv_source;   // earlier layer whose keys and values this one reads
  bool bidirectional_spans = false;   // tokens of one image see each other, later ones too
  bool qk_norm_across_heads = false;  // one norm over all heads' channels instead of one a head
  GateSpec gate;
  bool qkv_bias = false;
  bool gate_bias = false;
  bool output_bias = false;
  bool operator==(const AttentionSpec&) const = default;
};

/// Two branches on one input x, added up; the router reads x itself:
///   y = dense_post(dense(dense_pre(x))) + routed_post(Σ_j w_j(x)·expert_j(routed_pre(x)))
struct HybridMlpSpec {
  DenseMlpSpec dense;
  MoeSpec routed;
  std::optional<NormSpec> dense_pre_norm;
  std::optional<NormSpec> dense_post_norm;
  std::optional<NormSpec> routed_pre_norm;
  std::optional<NormSpec> routed_post_norm;
  bool operator==(const HybridMlpSpec&) const = default;
};

/// Closed sets: adding a mixer or MLP kind makes every incomplete std::visit fail to compile.
using MixerSpec = std::variant<AttentionSpec, GatedDeltaNetSpec, LatentAttentionSpec>;
using MlpSpec = std::variant<DenseMlpSpec, MoeSpec, HybridMlpSpec>;

/// One decoder block, in order:
///   a = mixer(pre_mixer_norm(h));  h += post_mixer_norm(a)
///   m = mlp(pre_mlp_norm(h));      h += post_mlp_norm(m)
///   h += per-layer input (if any);  h *= layer_scalar (if any). An absent norm is the identity.
struct LayerSpec {
  std::string block;  // name in the config: "global", "full_attention", …
  MixerSpec mixer;
  MlpSpec mlp;
  std::optional<NormSpec> pre_mixer_norm;
  std::optional<NormSpec> post_mixer_norm;
  std::optional<NormSpec> pre_mlp_norm;
  std::optional<NormSpec> post_mlp_norm;
  std::optional<PerLayerInputSpec> per_layer_input;
  bool layer_scalar = false;  // a stored scalar [1], not trained by default
  bool operator==(const LayerSpec&) const = default;
};

struct EmbeddingSpec {
  int64_t vocab_size = 0;
  double scale = 1.0;
  ScaleRounding scale_rounding = ScaleRounding::kExact;
  std::optional<int64_t> padding_id;  // its row gets no gradient from the lookup
  bool operator==(const EmbeddingSpec&) const = default;
};

struct HeadSpec {
  bool tied = false;
  std::optional<double> softcap;  // logits <- c·tanh(logits/c)
  std::optional<NormSpec> final_norm;
  bool operator==(const HeadSpec&) const = default;
};

/// Multi-token prediction: depth k = 1, 2, … predicts the token k places behind the next one from
/// e_k, the embedding of the token k places ahead, and h_{k-1}; h_0 is what the stack hands on:
///   r = layer_k( proj_k [ embedding_norm_k(e_k) ; hidden_norm_k(h_{k-1}) ] )
///   y = final_norm_k(r);  logits_k = head(y);  h_k = y, or r where `hidden` is residual
/// Test: tests/unit/nn/mtp_test.cpp
struct MtpSpec {
  std::vector<LayerSpec> layers;  // of depth 1, 2, …
  bool shared_weights = false;    // every depth has the weights of the first; equal layers
  MtpHidden hidden = MtpHidden::kNormed;
  std::optional<NormSpec> embedding_norm;
  std::optional<NormSpec> hidden_norm;
  std::optional<NormSpec> final_norm;
  bool own_head = false;    // a head for each set of weights, instead of the model's
  bool detach = false;      // losses train the depths alone
  double loss_scale = 0.1;  // the loss grows by loss_scale · mean of the depths' losses
  bool operator==(const MtpSpec&) const = default;

  int64_t depths() const { return static_cast<int64_t>(layers.size()); }
  /// Sets of weights: one, or one a depth.
  int64_t weight_sets() const { return shared_weights ? 1 : depths(); }
};

/// How rotary frequencies are computed: float32 as Hugging Face does even in float64 models, or in
/// the model's dtype.
enum class RopePrecision { kFloat32, kModelDtype };

struct ModelSpec {
  int64_t hidden_size = 0;  // D
  int64_t max_positions = 0;
  EmbeddingSpec embedding;
  std::optional<PerLayerEmbeddingSpec> per_layer_embedding;
  std::vector<LayerSpec> layers;
  HeadSpec head;
  std::optional<MtpSpec> mtp;
  InitSpec init;
  RopePrecision rope_precision = RopePrecision::kFloat32;
  /// A per-layer base list was given: every layer owns its rotary table and no model-level table
  /// exists.
  bool rope_per_layer = false;
  bool operator==(const ModelSpec&) const = default;
};

/// The attention part of a layer, or null when its mixer is another kind.
const AttentionSpec* attention_of(const LayerSpec& layer);

/// The Gated DeltaNet of a layer, or null when its mixer is another kind.
const GatedDeltaNetSpec* delta_net_of(const LayerSpec& layer);

/// The latent attention of a layer, or null when its mixer is another kind.
const LatentAttentionSpec* latent_of(const LayerSpec& layer);

/// The rotary positions of a layer's mixer and the channels they belong to; null where it has none.
struct RotatedHead {
  const RopeSpec* rope = nullptr;
  int64_t dim = 0;
};
RotatedHead rotated_head(const LayerSpec& layer);

/// Rows that a layer keeps of every token: keys and values of each kv head. Latent attention keeps
/// one head of [latent | rotated key], and the indexer's key (or nothing) in the place of the
/// value.
struct CachedRows {
  int64_t heads = 0;
  int64_t key_dim = 0;
  int64_t value_dim = 0;
  std::optional<int64_t> window;  // tokens after which they may go
};
/// Nothing for a mixer that keeps something else.
std::optional<CachedRows> cached_rows(const LayerSpec& layer);

/// The mixture of experts of a layer, the routed branch of a hybrid included, or null.
const MoeSpec* moe_of(const LayerSpec& layer);

/// Blocks of a model by number: the stack, then one for each set of weights of multi-token
/// prediction. Their numbers key random draws, routers' records and names on disk.
int64_t num_blocks(const ModelSpec& spec);
const LayerSpec& block_at(const ModelSpec& spec, int64_t index);
/// Prefix of its parameters: "layers.3.", "mtp.layers.0.block.".
std::string block_scope(const ModelSpec& spec, int64_t index);

/// The dense MLP of a layer, the dense branch of a hybrid included, or null.
const DenseMlpSpec* dense_of(const LayerSpec& layer);

/// Layers that take part in the per-layer embedding.
int64_t per_layer_count(const ModelSpec& spec);

/// Shared experts of a mixture as the dense MLP they are; nothing without them.
std::optional<DenseMlpSpec> shared_mlp(const MoeSpec& moe);

/// Throws ConfigError listing every value that no model may have (sizes <= 0, H % G != 0, odd
/// rotated width, …). Messages name the layer as `model.layers[i]`.
void validate(const ModelSpec& spec);

}  // namespace headway::spec

namespace headway {

template <>
struct EnumTable<spec::RopePrecision> {
  static constexpr auto kEntries = std::to_array<EnumEntry<spec::RopePrecision>>(
      {{spec::RopePrecision::kFloat32, "float32"},
       {spec::RopePrecision::kModelDtype, "model_dtype"}});
};

}  // namespace headway
