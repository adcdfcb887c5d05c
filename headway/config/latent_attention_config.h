// A multi-head latent attention (MLA) mixer, and the indexer that makes it sparse (DSA), as a
// config and a ModelSpec hold them alike, as nothing in them is derived.
// Not for: grouped-query attention (model_config.h).
// Legend: H heads, C channels of the key/value latent, D_n channels without positions, D_r rotated
// channels, V value dim.
#pragma once

#include <cstdint>
#include <optional>

#include "headway/base/enum_table.h"
#include "headway/base/field_rule.h"
#include "headway/config/model_parts.h"

namespace headway::config {

/// In which form the indexer compares queries and keys: as computed, or as 8-bit blocks hold them.
enum class IndexPrecision { kExact, kFp8 };

/// Which keys the indexer's loss compares: all that a query sees, or those that it chose.
enum class IndexLossKeys { kVisible, kChosen };

/// Chooses the keys of every query: top_k of Σ_n w_n·relu(q_n·k).
struct IndexerConfig {
  int64_t num_heads = 0;
  int64_t head_dim = 0;  // the first D_r channels are rotated
  int64_t top_k = 0;
  RopeLayout rope_layout = RopeLayout::kHalf;
  bool relu = true;
  bool hadamard = false;
  IndexPrecision precision = IndexPrecision::kExact;
  double norm_eps = 1e-6;
  double loss = 0.0;
  IndexLossKeys loss_keys = IndexLossKeys::kVisible;
  bool operator==(const IndexerConfig&) const = default;

  template <class V>
  static void fields(V& v) {
    using I = IndexerConfig;
    v.field("num_heads", &I::num_heads, "query heads of the indexer",
            between(1, kMaxHeads).required());
    v.field("head_dim", &I::head_dim, "channels of an index head, at least rope_head_dim",
            between(1, kMaxHeadDim).required());
    v.field("top_k", &I::top_k, "keys a query attends to", between(1, kMaxTokens).required());
    v.field("rope_layout", &I::rope_layout, "pairs of its rotated channels, which come first");
    v.field("relu", &I::relu, "products below 0 count as 0");
    v.field("hadamard", &I::hadamard,
            "rotates queries and keys before they are rounded; needs a power of two of channels");
    v.field("precision", &I::precision, "compare as computed, or as 8-bit blocks would hold them");
    v.field("norm_eps", &I::norm_eps, "of the LayerNorm of its keys", at_least(0));
    v.field("loss", &I::loss,
            "weight of its divergence from what attention looks at; 0 = it learns nothing",
            at_least(0));
    v.field("loss_keys", &I::loss_keys, "keys that the loss compares");
  }
};

/// c = norm(W_dkv x), k_h = [W_uk,h c | rope(k_r)], v_h = W_uv,h c; q_h = [q_n | rope(q_r)] from x
/// or from a latent of its own; out = W_o concat_h(softmax(scale q_h·k_h) v_h).
struct LatentAttentionConfig {
  int64_t num_heads = 0;               // H
  std::optional<int64_t> q_lora_rank;  // none: queries straight from x
  int64_t kv_lora_rank = 0;            // C
  int64_t nope_head_dim = 0;           // D_n
  int64_t rope_head_dim = 0;           // D_r
  int64_t v_head_dim = 0;              // V
  std::optional<RopeConfig> rope = RopeConfig{};
  std::optional<double> scale;  // none = (D_n + D_r)^-0.5, by YaRN's mscale_all_dim squared
  std::optional<NormConfig> latent_norm = NormConfig{.eps = 1e-6};
  bool latent_bias = false;
  bool output_bias = false;
  double dropout = 0.0;
  std::optional<IndexerConfig> indexer;
  bool shared_choice = false;
  bool operator==(const LatentAttentionConfig&) const = default;

  template <class V>
  static void fields(V& v) {
    using L = LatentAttentionConfig;
    const Rule dim = between(1, kMaxHeadDim);
    v.field("num_heads", &L::num_heads, "heads", between(1, kMaxHeads).required());
    v.field("q_lora_rank", &L::q_lora_rank,
            "channels of the queries' latent; none = queries straight from the input",
            between(1, kMaxWidth));
    v.field("kv_lora_rank", &L::kv_lora_rank, "channels of the latent of keys and values",
            between(1, kMaxWidth).required());
    v.field("nope_head_dim", &L::nope_head_dim, "channels of a head without positions",
            dim.required());
    v.field("rope_head_dim", &L::rope_head_dim,
            "rotated channels of a head, whose key all heads share", dim.required());
    v.field("v_head_dim", &L::v_head_dim, "channels of a value head", dim.required());
    v.field("rope", &L::rope, "rotary positions; none = no positions");
    v.field("scale", &L::scale,
            "multiplies q·k; none = (nope_head_dim + rope_head_dim)^-0.5, with YaRN times "
            "(0.1 mscale_all_dim ln(factor) + 1)^2",
            above(0));
    v.field("latent_norm", &L::latent_norm, "norm of both latents; none = no norms");
    v.field("latent_bias", &L::latent_bias, "biases of the projections to the latents");
    v.field("output_bias", &L::output_bias, "bias of the output projection");
    v.field("dropout", &L::dropout, "part of the probabilities dropped in training",
            from_below(0, 1));
    v.field("indexer", &L::indexer, "chooses the keys of every query; none = all");
    v.field("shared_choice", &L::shared_choice,
            "attends to the keys that the nearest earlier layer with an indexer chose");
  }
};

}  // namespace headway::config

namespace headway {

template <>
struct EnumTable<config::IndexPrecision> {
  static constexpr auto kEntries = std::to_array<EnumEntry<config::IndexPrecision>>(
      {{config::IndexPrecision::kExact, "exact"}, {config::IndexPrecision::kFp8, "fp8"}});
};
template <>
struct EnumTable<config::IndexLossKeys> {
  static constexpr auto kEntries = std::to_array<EnumEntry<config::IndexLossKeys>>(
      {{config::IndexLossKeys::kVisible, "visible"}, {config::IndexLossKeys::kChosen, "chosen"}});
};

}  // namespace headway
