// Megatron arguments that decide which module spec every layer gets and how layers are spread over
// pipeline stages. Not for: sizes and numerics of the layers (megatron_config.h).
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "headway/base/field_rule.h"
#include "headway/base/json.h"
#include "headway/spec/megatron_config.h"

namespace headway::spec {

struct BlockArguments {
  int64_t num_layers = 0;  // L
  // Attention kinds.
  std::optional<std::string> experimental_attention_variant;
  Json linear_attention_freq;  // integer, list or null
  bool multi_latent_attention = false;
  bool qk_layernorm = false;
  bool qk_l2_norm = false;
  std::optional<int64_t> dsa_indexer_n_heads;
  std::optional<int64_t> dsa_indexer_head_dim;
  std::optional<int64_t> dsa_indexer_topk;
  int64_t dsa_indexer_topk_freq = 1;
  int64_t dsa_indexer_skip_topk_offset = 0;
  // MLP kinds.
  std::optional<int64_t> num_moe_experts;
  Json moe_layer_freq = 1;  // integer or list
  bool moe_grouped_gemm = false;
  // Backend.
  MegatronNorm normalization = MegatronNorm::kLayer;
  std::string transformer_impl = "transformer_engine";
  bool use_kitchen = false;
  bool use_kitchen_attention = false;
  std::string kitchen_attention_backend = "sdpa";
  bool fallback_to_eager_attn = false;
  // Pipeline.
  int64_t pipeline_model_parallel_size = 1;
  std::optional<int64_t> virtual_pipeline_model_parallel_size;
  std::optional<int64_t> num_layers_in_first_pipeline_stage;
  std::optional<int64_t> num_layers_in_last_pipeline_stage;
  bool account_for_embedding_in_pipeline_split = false;
  bool account_for_loss_in_pipeline_split = false;
  Json pipeline_model_parallel_layout;  // layout string, list of lists of names, or null
  std::optional<int64_t> mtp_num_layers;
  bool operator==(const BlockArguments&) const = default;

  template <class V>
  static void fields(V& v) {
    using B = BlockArguments;
    v.field("num_layers", &B::num_layers, "layers", between(1, config::kMaxLayers).required());
    v.field("experimental_attention_variant", &B::experimental_attention_variant,
            "gated_delta_net, gdn or dsa");
    v.field("linear_attention_freq", &B::linear_attention_freq, "every N-th layer is softmax");
    v.field("multi_latent_attention", &B::multi_latent_attention, "MLA");
    v.field("qk_layernorm", &B::qk_layernorm, "norms over query and key heads");
    v.field("qk_l2_norm", &B::qk_l2_norm, "the same without parameters");
    v.field("dsa_indexer_n_heads", &B::dsa_indexer_n_heads, "indexer heads", at_least(1));
    v.field("dsa_indexer_head_dim", &B::dsa_indexer_head_dim, "indexer width", at_least(1));
    v.field("dsa_indexer_topk", &B::dsa_indexer_topk, "tokens selected", at_least(1));
    v.field("dsa_indexer_topk_freq", &B::dsa_indexer_topk_freq, "layers that share indices",
            between(1, config::kMaxLayers));
    v.field("dsa_indexer_skip_topk_offset", &B::dsa_indexer_skip_topk_offset,
            "layers before sharing starts", between(0, config::kMaxLayers));
    v.field("num_moe_experts", &B::num_moe_experts, "none = dense MLPs only", at_least(1));
    v.field("moe_layer_freq", &B::moe_layer_freq, "every N-th layer is routed");
    v.field("moe_grouped_gemm", &B::moe_grouped_gemm, "experts as one grouped GEMM");
    v.field("normalization", &B::normalization, "kind of every norm");
    v.field("transformer_impl", &B::transformer_impl, "backend",
            one_of({"transformer_engine", "local", "inference_optimized"}));
    v.field("use_kitchen", &B::use_kitchen, "quantised layers over the fused backend");
    v.field("use_kitchen_attention", &B::use_kitchen_attention, "its attention too");
    v.field("kitchen_attention_backend", &B::kitchen_attention_backend, "sdpa or fa");
    v.field("fallback_to_eager_attn", &B::fallback_to_eager_attn, "unfused softmax attention");
    const Rule ranks = between(1, 1 << 20);
    const Rule layers = between(1, config::kMaxLayers);
    v.field("pipeline_model_parallel_size", &B::pipeline_model_parallel_size, "pp", ranks);
    v.field("virtual_pipeline_model_parallel_size", &B::virtual_pipeline_model_parallel_size,
            "stages per rank", layers);
    v.field("num_layers_in_first_pipeline_stage", &B::num_layers_in_first_pipeline_stage,
            "uneven first rank", layers);
    v.field("num_layers_in_last_pipeline_stage", &B::num_layers_in_last_pipeline_stage,
            "uneven last rank", layers);
    v.field("account_for_embedding_in_pipeline_split", &B::account_for_embedding_in_pipeline_split,
            "the embedding counts as a layer");
    v.field("account_for_loss_in_pipeline_split", &B::account_for_loss_in_pipeline_split,
            "the loss counts as a layer");
    v.field("pipeline_model_parallel_layout", &B::pipeline_model_parallel_layout,
            "Et*3|(tt|)*29,m|L, or a list of lists of names");
    v.field("mtp_num_layers", &B::mtp_num_layers, "multi-token prediction depths",
            between(0, config::kMaxLayers));
  }
};

/// Takes the fields above out of Megatron arguments; others must be names that read_megatron knows.
/// Errors: ConfigError with every problem: types, unknown keys, the rules of pipeline_split.h.
/// Test: tests/unit/spec/block_spec_test.cpp
BlockArguments read_block_arguments(const Json& arguments,
                                    const std::string& path = "model.megatron");

}  // namespace headway::spec
