// Megatron's arguments of multi-latent attention (MLA) and of the indexer that makes it sparse
// (DSA): typed fields, their rules, and the LatentAttentionSpec they mean.
// Not for: grouped-query attention (megatron_config.h) or parameter names (io/megatron_layout.h).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "headway/base/field_rule.h"
#include "headway/base/problems.h"
#include "headway/spec/model_spec.h"

namespace headway::spec {

struct MegatronConfig;

/// Upstream's defaults; rotary_base, rotary_percent and rotary_scaling_factor (40 here where it is
/// not given) stand with the other positions.
struct MegatronLatent {
  std::optional<int64_t> q_lora_rank = 512;  // none = queries straight from the input
  int64_t kv_lora_rank = 512;
  int64_t qk_head_dim = 128;
  int64_t qk_pos_emb_head_dim = 64;
  int64_t v_head_dim = 128;
  std::string rope_type = "yarn";
  double original_max_position_embeddings = 4096;
  double beta_fast = 32.0;
  double beta_slow = 1.0;
  double mscale = 1.0;
  double mscale_all_dim = 0.0;
  bool cache_mla_latents = false;  // always so here
  bool mla_down_proj_fusion = false;
  bool apply_rope_fusion = false;
  std::optional<int64_t> dsa_indexer_n_heads;
  std::optional<int64_t> dsa_indexer_head_dim;
  std::optional<int64_t> dsa_indexer_topk;
  int64_t dsa_indexer_topk_freq = 1;
  int64_t dsa_indexer_skip_topk_offset = 0;
  std::optional<double> dsa_indexer_loss_coeff;
  bool dsa_indexer_use_sparse_loss = false;
  bool dsa_indexer_rope_interleaved = false;
  bool dsa_indexer_rotate_activation = true;
  bool dsa_indexer_scoring_relu = true;
  std::optional<double> dsa_indexer_k_norm_epsilon;  // none = layernorm_epsilon
  bool dsa_indexer_k_norm_fp32 = false;              // statistics are always in float32
  std::string dsa_kernel_backend = "none";
  bool operator==(const MegatronLatent&) const = default;

  template <class V>
  static void visit(V& v) {
    using L = MegatronLatent;
    const Rule dim = between(1, config::kMaxHeadDim), width = between(1, config::kMaxWidth);
    v.field("q_lora_rank", &L::q_lora_rank, "width of the queries' latent", width);
    v.field("kv_lora_rank", &L::kv_lora_rank, "width of the latent", width);
    v.field("qk_head_dim", &L::qk_head_dim, "channels without positions", dim);
    v.field("qk_pos_emb_head_dim", &L::qk_pos_emb_head_dim, "rotated channels", dim);
    v.field("v_head_dim", &L::v_head_dim, "value channels", dim);
    v.field("rope_type", &L::rope_type, "positions of MLA", one_of({"rope", "yarn"}));
    v.field("original_max_position_embeddings", &L::original_max_position_embeddings,
            "context before YaRN's stretch", above(0));
    v.field("beta_fast", &L::beta_fast, "turns above which a channel is kept", above(0));
    v.field("beta_slow", &L::beta_slow, "turns below which it is stretched", above(0));
    v.field("mscale", &L::mscale, "numerator of the factor of cos and sin", at_least(0));
    v.field("mscale_all_dim", &L::mscale_all_dim, "denominator of it; squared in the scale",
            at_least(0));
    v.field("cache_mla_latents", &L::cache_mla_latents, "no effect here");
    v.field("mla_down_proj_fusion", &L::mla_down_proj_fusion, "one tensor for both latents");
    v.field("apply_rope_fusion", &L::apply_rope_fusion, "no effect here");
    const Rule heads = between(1, config::kMaxHeads), layers = between(0, config::kMaxLayers);
    v.field("dsa_indexer_n_heads", &L::dsa_indexer_n_heads, "index heads", heads);
    v.field("dsa_indexer_head_dim", &L::dsa_indexer_head_dim, "their channels", dim);
    v.field("dsa_indexer_topk", &L::dsa_indexer_topk, "keys a query attends to",
            between(1, config::kMaxTokens));
    v.field("dsa_indexer_topk_freq", &L::dsa_indexer_topk_freq, "layers that share a choice",
            between(1, config::kMaxLayers));
    v.field("dsa_indexer_skip_topk_offset", &L::dsa_indexer_skip_topk_offset,
            "layers before sharing starts", layers);
    v.field("dsa_indexer_loss_coeff", &L::dsa_indexer_loss_coeff, "none or 0 = no loss",
            at_least(0));
    v.field("dsa_indexer_use_sparse_loss", &L::dsa_indexer_use_sparse_loss,
            "the loss compares chosen keys only");
    v.field("dsa_indexer_rope_interleaved", &L::dsa_indexer_rope_interleaved, "pairs (2i, 2i + 1)");
    v.field("dsa_indexer_rotate_activation", &L::dsa_indexer_rotate_activation, "Hadamard");
    v.field("dsa_indexer_scoring_relu", &L::dsa_indexer_scoring_relu, "products below 0 count 0");
    v.field("dsa_indexer_k_norm_epsilon", &L::dsa_indexer_k_norm_epsilon, "of the keys' norm",
            at_least(0));
    v.field("dsa_indexer_k_norm_fp32", &L::dsa_indexer_k_norm_fp32, "no effect here");
    v.field("dsa_kernel_backend", &L::dsa_kernel_backend, "no effect here",
            one_of({"none", "tilelang", "cudnn"}));
  }
};

/// Rules of spec/variants.md §2.1 and §3.1; what is allowed upstream and missing here adds a line
/// to `unsupported`.
void check_megatron_latent(const MegatronConfig& config, const std::string& path,
                           Problems& problems, std::vector<std::string>& unsupported);

/// The mixer of layer `layer_number` (from 1) with multi_latent_attention.
/// Source: Megatron-Core MLASelfAttention, DSAttention. Test:
/// tests/unit/spec/latent_attention_test.cpp
LatentAttentionSpec megatron_latent(const MegatronConfig& config, int64_t layer_number);

}  // namespace headway::spec
