// Megatron-style arguments as typed values: the fields of TransformerConfig and GPTModel that say
// what a dense GPT is, under their upstream names. Not for: what they mean for a layer
// (megatron.h), or fields without effect here (megatron_fields.cpp lists those).
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "headway/base/enum_table.h"
#include "headway/base/field_rule.h"
#include "headway/base/json.h"
#include "headway/config/model_parts.h"
#include "headway/spec/megatron_latent.h"
#include "headway/spec/megatron_linear.h"
#include "headway/spec/megatron_moe.h"

namespace headway::spec {

enum class PositionType { kRope, kYarn, kMrope, kLearnedAbsolute, kRelative, kNone };
enum class MegatronSoftmax { kVanilla, kOffByOne, kLearnable };
enum class MegatronNorm { kLayer, kRms };
enum class MegatronActivation { kGelu, kSilu, kRelu };

/// Sizes of the stack, its MLPs, norms, embedding and head.
struct MegatronStack {
  int64_t num_layers = 0;
  int64_t hidden_size = 0;
  std::optional<int64_t> ffn_hidden_size;  // none = 4 x hidden_size
  std::optional<int64_t> vocab_size;       // none = that of the tokenizer
  int64_t max_sequence_length = 8192;
  bool share_embeddings_and_output_weights = false;
  MegatronNorm normalization = MegatronNorm::kLayer;
  double layernorm_epsilon = 1e-5;
  bool layernorm_zero_centered_gamma = false;
  MegatronActivation activation_func = MegatronActivation::kGelu;
  bool gated_linear_unit = false;
  bool bias_activation_fusion = false;  // upstream's fused gelu is the tanh form
  bool add_bias_linear = true;
  double init_method_std = 0.02;
  double hidden_dropout = 0.0;
  double attention_dropout = 0.1;
  bool operator==(const MegatronStack&) const = default;

  template <class V>
  static void visit(V& v) {
    using S = MegatronStack;
    using config::kMaxWidth;
    v.field("num_layers", &S::num_layers, "layers", between(1, config::kMaxLayers).required());
    v.field("hidden_size", &S::hidden_size, "residual width", between(1, kMaxWidth).required());
    v.field("ffn_hidden_size", &S::ffn_hidden_size, "inner width", between(1, kMaxWidth));
    v.field("vocab_size", &S::vocab_size, "embedding rows", between(1, config::kMaxVocab));
    v.field("max_sequence_length", &S::max_sequence_length, "context",
            between(1, config::kMaxTokens));
    v.field("share_embeddings_and_output_weights", &S::share_embeddings_and_output_weights,
            "the head is the embedding transposed");
    v.field("normalization", &S::normalization, "kind of every norm");
    v.field("layernorm_epsilon", &S::layernorm_epsilon, "of every norm", at_least(0));
    v.field("layernorm_zero_centered_gamma", &S::layernorm_zero_centered_gamma, "1 + weight");
    v.field("activation_func", &S::activation_func, "of the MLP");
    v.field("gated_linear_unit", &S::gated_linear_unit, "act(gate x) * up x");
    v.field("bias_activation_fusion", &S::bias_activation_fusion, "makes gelu its tanh form");
    v.field("add_bias_linear", &S::add_bias_linear, "biases of all projections");
    v.field("init_method_std", &S::init_method_std, "of weight matrices", at_least(0));
    v.field("hidden_dropout", &S::hidden_dropout, "0 only", from_below(0, 1));
    v.field("attention_dropout", &S::attention_dropout, "of probabilities, in training",
            from_below(0, 1));
  }
};

/// Heads, gates, windows and softmax of every self-attention.
struct MegatronAttention {
  int64_t num_attention_heads = 0;
  std::optional<int64_t> num_query_groups;  // none = num_attention_heads
  std::optional<int64_t> kv_channels;       // none = hidden_size / num_attention_heads
  bool add_qkv_bias = false;
  bool qk_layernorm = false;
  bool qk_l2_norm = false;
  bool attention_output_gate = false;
  bool head_wise_attn_gate = false;
  std::string head_wise_attn_gate_init = "normal";    // normal | zero | constant:c
  std::optional<std::array<int64_t, 2>> window_size;  // tokens to the left and right; -1 = all
  Json window_attn_skip_freq;                         // integer, list or null
  std::optional<double> softmax_scale;
  bool use_mup = false;
  std::optional<double> mup_base_head_dim;
  double mup_attn_scale_power = 1.0;
  double mup_width_mult = 1.0;
  MegatronSoftmax softmax_type = MegatronSoftmax::kVanilla;
  std::optional<double> attn_logit_softcap;
  bool apply_query_key_layer_scaling = false;  // mathematically no change
  bool fused_single_qkv_rope = false;
  bool multi_latent_attention = false;
  bool flash_decode = false;
  bool batch_invariant_mode = false;
  std::string attention_backend = "auto";
  std::string transformer_impl = "local";
  bool operator==(const MegatronAttention&) const = default;

  template <class V>
  static void visit(V& v) {
    using A = MegatronAttention;
    const Rule heads = between(1, config::kMaxHeads);
    v.field("num_attention_heads", &A::num_attention_heads, "H", heads.required());
    v.field("num_query_groups", &A::num_query_groups, "G", heads);
    v.field("kv_channels", &A::kv_channels, "head dim", between(1, config::kMaxHeadDim));
    v.field("add_qkv_bias", &A::add_qkv_bias, "bias of linear_qkv");
    v.field("qk_layernorm", &A::qk_layernorm, "norms over query and key heads");
    v.field("qk_l2_norm", &A::qk_l2_norm, "the same without parameters");
    v.field("attention_output_gate", &A::attention_output_gate, "one gate a channel");
    v.field("head_wise_attn_gate", &A::head_wise_attn_gate, "one gate a head");
    v.field("head_wise_attn_gate_init", &A::head_wise_attn_gate_init, "normal|zero|constant:c");
    v.field("window_size", &A::window_size, "tokens to the left and right",
            between(-1, config::kMaxTokens - 1));
    v.field("window_attn_skip_freq", &A::window_attn_skip_freq, "which layers see everything");
    v.field("softmax_scale", &A::softmax_scale, "none = kv_channels^-0.5", above(0));
    v.field("use_mup", &A::use_mup, "another default of softmax_scale");
    v.field("mup_base_head_dim", &A::mup_base_head_dim, "none = 1", above(0));
    v.field("mup_attn_scale_power", &A::mup_attn_scale_power, "of kv_channels in that default",
            at_least(0));
    v.field("mup_width_mult", &A::mup_width_mult, "1 only", above(0));
    v.field("softmax_type", &A::softmax_type, "extra softmax logit");
    v.field("attn_logit_softcap", &A::attn_logit_softcap, "c·tanh(score / c)", above(0));
    v.field("apply_query_key_layer_scaling", &A::apply_query_key_layer_scaling, "no change");
    v.field("fused_single_qkv_rope", &A::fused_single_qkv_rope, "one kernel, same values");
    v.field("multi_latent_attention", &A::multi_latent_attention, "latent attention in every layer");
    v.field("flash_decode", &A::flash_decode, "false only");
    v.field("batch_invariant_mode", &A::batch_invariant_mode, "false only");
    v.field("attention_backend", &A::attention_backend, "no effect here");
    v.field("transformer_impl", &A::transformer_impl, "no effect here");
  }
};

/// Positions.
struct MegatronRotary {
  PositionType position_embedding_type = PositionType::kRope;
  double rotary_base = 10000.0;
  double rotary_percent = 1.0;
  bool rotary_interleaved = false;
  std::optional<double> rotary_scaling_factor;  // linear interpolation; none = 1
  bool rope_scaling = false;                    // Llama-3
  double rope_scaling_factor = 8.0;
  double rope_scaling_low_freq_factor = 1.0;
  double rope_scaling_high_freq_factor = 4.0;
  double rope_scaling_original_max_position_embeddings = 8192;
  std::optional<std::vector<double>> rotary_base_per_layer;
  Json no_rope_freq;  // integer, list or null
  std::optional<std::vector<int64_t>> mrope_section;
  bool mrope_interleaved = false;
  std::optional<double> yarn_rotary_scaling_factor;
  double yarn_original_max_position_embeddings = 4096;
  double yarn_beta_fast = 32.0;
  double yarn_beta_slow = 1.0;
  std::optional<double> yarn_mscale = 1.0;
  std::optional<double> yarn_mscale_all_dim = 0.0;
  bool yarn_correction_range_round_to_int = true;
  bool operator==(const MegatronRotary&) const = default;

  template <class V>
  static void visit(V& v) {
    using R = MegatronRotary;
    v.field("position_embedding_type", &R::position_embedding_type, "kind of positions");
    v.field("rotary_base", &R::rotary_base, "wave length base", above(0));
    v.field("rotary_percent", &R::rotary_percent, "part that rotates", above_up_to(0, 1));
    v.field("rotary_interleaved", &R::rotary_interleaved, "pairs (2i, 2i + 1)");
    v.field("rotary_scaling_factor", &R::rotary_scaling_factor, "divides positions", above(0));
    v.field("rope_scaling", &R::rope_scaling, "Llama-3 scaling");
    v.field("rope_scaling_factor", &R::rope_scaling_factor, "Llama-3 stretch", above(0));
    v.field("rope_scaling_low_freq_factor", &R::rope_scaling_low_freq_factor, "Llama-3", above(0));
    v.field("rope_scaling_high_freq_factor", &R::rope_scaling_high_freq_factor, "Llama-3",
            above(0));
    v.field("rope_scaling_original_max_position_embeddings",
            &R::rope_scaling_original_max_position_embeddings, "Llama-3", above(0));
    v.field("rotary_base_per_layer", &R::rotary_base_per_layer, "one base a layer", above(0));
    v.field("no_rope_freq", &R::no_rope_freq, "which layers have no positions");
    v.field("mrope_section", &R::mrope_section, "pairs of each axis");
    v.field("mrope_interleaved", &R::mrope_interleaved, "order of those pairs");
    v.field("yarn_rotary_scaling_factor", &R::yarn_rotary_scaling_factor, "stretch", above(0));
    v.field("yarn_original_max_position_embeddings", &R::yarn_original_max_position_embeddings,
            "context before the stretch", above(0));
    v.field("yarn_beta_fast", &R::yarn_beta_fast, "turns above which a channel is kept", above(0));
    v.field("yarn_beta_slow", &R::yarn_beta_slow, "turns below which it is stretched", above(0));
    v.field("yarn_mscale", &R::yarn_mscale, "numerator of the factor", at_least(0));
    v.field("yarn_mscale_all_dim", &R::yarn_mscale_all_dim, "denominator of it", at_least(0));
    v.field("yarn_correction_range_round_to_int", &R::yarn_correction_range_round_to_int,
            "round the range outwards");
  }
};

/// How a model would be spread over devices and which precision and recomputation it would use:
/// checked as upstream checks it, then refused where this build cannot do it.
struct MegatronRuntime {
  int64_t tensor_model_parallel_size = 1;
  int64_t pipeline_model_parallel_size = 1;
  int64_t context_parallel_size = 1;
  int64_t expert_model_parallel_size = 1;
  bool sequence_parallel = false;
  Json cp_comm_type;  // name, list of names or null
  std::optional<std::vector<int64_t>> hierarchical_context_parallel_sizes;
  std::optional<std::string> cp_partition_mode;
  bool fp16 = false;
  bool bf16 = false;
  Json fp8;  // false, null, or a format
  Json fp4;
  std::optional<std::string> fp8_recipe;
  std::optional<std::string> recompute_granularity;
  std::optional<std::string> recompute_method;
  std::optional<int64_t> recompute_num_layers;
  std::optional<std::vector<std::string>> recompute_modules;
  bool delay_wgrad_compute = false;
  bool overlap_moe_expert_parallel_comm = false;
  bool test_mode = false;
  bool cpu_offloading = false;
  bool enable_cuda_graph = false;
  std::optional<std::string> cuda_graph_impl;
  std::optional<int64_t> mtp_num_layers;
  std::optional<double> mtp_loss_scaling_factor;  // none = 0.1
  bool mtp_use_repeated_layer = false;
  bool mtp_detach_heads = false;
  bool calculate_per_token_loss = false;
  bool qk_clip = false;  // these four are train.qk_clip and train.log_max_attention_logit
  double qk_clip_alpha = 0.5;
  double qk_clip_threshold = 100.0;
  bool log_max_attention_logit = false;
  bool operator==(const MegatronRuntime&) const = default;

  template <class V>
  static void visit(V& v) {
    using R = MegatronRuntime;
    const Rule ranks = between(1, 1 << 20);
    v.field("tensor_model_parallel_size", &R::tensor_model_parallel_size, "1 only", ranks);
    v.field("pipeline_model_parallel_size", &R::pipeline_model_parallel_size, "1 only", ranks);
    v.field("context_parallel_size", &R::context_parallel_size, "1 only", ranks);
    v.field("expert_model_parallel_size", &R::expert_model_parallel_size, "1 only", ranks);
    v.field("sequence_parallel", &R::sequence_parallel, "false only");
    v.field("cp_comm_type", &R::cp_comm_type, "how context ranks exchange keys");
    v.field("hierarchical_context_parallel_sizes", &R::hierarchical_context_parallel_sizes,
            "levels of a2a+p2p", ranks);
    v.field("cp_partition_mode", &R::cp_partition_mode, "zigzag or contiguous",
            one_of({"zigzag", "contiguous"}));
    v.field("fp16", &R::fp16, "dtype; train.dtype and --dtype choose it here");
    v.field("bf16", &R::bf16, "dtype; train.dtype and --dtype choose it here");
    v.field("fp8", &R::fp8, "none only");
    v.field("fp4", &R::fp4, "none only");
    v.field("fp8_recipe", &R::fp8_recipe, "of fp8");
    v.field("recompute_granularity", &R::recompute_granularity, "as train.recompute",
            one_of({"full", "selective"}));
    v.field("recompute_method", &R::recompute_method, "of full", one_of({"block", "uniform"}));
    v.field("recompute_num_layers", &R::recompute_num_layers, "of full", at_least(1));
    v.field("recompute_modules", &R::recompute_modules, "of selective",
            one_of({"core_attn", "moe_act", "layernorm", "mla_up_proj", "mlp", "moe",
                    "shared_experts"}));
    v.field("delay_wgrad_compute", &R::delay_wgrad_compute, "as train.delay_wgrad");
    v.field("overlap_moe_expert_parallel_comm", &R::overlap_moe_expert_parallel_comm,
            "no effect in one process");
    v.field("test_mode", &R::test_mode, "as --checks=realtime");
    v.field("cpu_offloading", &R::cpu_offloading, "false only");
    v.field("enable_cuda_graph", &R::enable_cuda_graph, "no effect here");
    v.field("cuda_graph_impl", &R::cuda_graph_impl, "no effect here");
    v.field("mtp_num_layers", &R::mtp_num_layers, "multi-token prediction depths",
            between(0, config::kMaxMtpDepths));
    v.field("mtp_loss_scaling_factor", &R::mtp_loss_scaling_factor, "of the depths' mean loss",
            at_least(0));
    v.field("mtp_use_repeated_layer", &R::mtp_use_repeated_layer, "one set of weights");
    v.field("mtp_detach_heads", &R::mtp_detach_heads, "losses train the depths alone");
    v.field("calculate_per_token_loss", &R::calculate_per_token_loss,
            "losses are sums over tokens: the indexer's, and the probe's mtp losses");
    v.field("qk_clip", &R::qk_clip, "clip query and key weights after a step");
    v.field("qk_clip_alpha", &R::qk_clip_alpha, "part the queries take", between(0, 1));
    v.field("qk_clip_threshold", &R::qk_clip_threshold, "largest logit allowed", above(0));
    v.field("log_max_attention_logit", &R::log_max_attention_logit, "measure logits");
  }
};

struct MegatronConfig : MegatronStack,
                        MegatronAttention,
                        MegatronRotary,
                        MegatronLatent,
                        MegatronLinear,
                        MegatronMoe,
                        MegatronRuntime {
  bool operator==(const MegatronConfig&) const = default;

  int64_t query_groups() const { return num_query_groups.value_or(num_attention_heads); }
  int64_t head_dim() const { return kv_channels.value_or(hidden_size / num_attention_heads); }
  bool qkv_bias() const { return add_bias_linear || add_qkv_bias; }

  template <class V>
  static void fields(V& v) {
    MegatronStack::visit(v);
    MegatronAttention::visit(v);
    MegatronRotary::visit(v);
    MegatronLatent::visit(v);
    MegatronLinear::visit(v);
    MegatronMoe::visit(v);
    MegatronRuntime::visit(v);
  }
};

}  // namespace headway::spec

namespace headway {

template <>
struct EnumTable<spec::PositionType> {
  static constexpr auto kEntries = std::to_array<EnumEntry<spec::PositionType>>(
      {{spec::PositionType::kRope, "rope"},
       {spec::PositionType::kYarn, "yarn"},
       {spec::PositionType::kMrope, "mrope"},
       {spec::PositionType::kLearnedAbsolute, "learned_absolute"},
       {spec::PositionType::kRelative, "relative"},
       {spec::PositionType::kNone, "none"}});
};
template <>
struct EnumTable<spec::MegatronSoftmax> {
  static constexpr std::string_view kUnknown = "Softmax type not supported";
  static constexpr auto kEntries = std::to_array<EnumEntry<spec::MegatronSoftmax>>(
      {{spec::MegatronSoftmax::kVanilla, "vanilla"},
       {spec::MegatronSoftmax::kOffByOne, "off-by-one"},
       {spec::MegatronSoftmax::kLearnable, "learnable"}});
};
template <>
struct EnumTable<spec::MegatronNorm> {
  static constexpr auto kEntries = std::to_array<EnumEntry<spec::MegatronNorm>>(
      {{spec::MegatronNorm::kLayer, "LayerNorm"}, {spec::MegatronNorm::kRms, "RMSNorm"}});
};
template <>
struct EnumTable<spec::MegatronActivation> {
  static constexpr auto kEntries = std::to_array<EnumEntry<spec::MegatronActivation>>(
      {{spec::MegatronActivation::kGelu, "gelu"},
       {spec::MegatronActivation::kSilu, "silu"},
       {spec::MegatronActivation::kSilu, "swish"},
       {spec::MegatronActivation::kRelu, "relu"}});
};

}  // namespace headway
