// Megatron's arguments of mixtures of experts: typed fields, their rules, and the MoeSpec they
// mean. Not for: dense layers (megatron_config.h) or parameter names (io/megatron_layout.h).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "headway/base/field_rule.h"
#include "headway/base/json.h"
#include "headway/base/problems.h"
#include "headway/config/moe_config.h"
#include "headway/spec/model_spec.h"

namespace headway::spec {

struct MegatronConfig;

struct MegatronMoe {
  std::optional<int64_t> num_moe_experts;
  std::optional<int64_t> moe_ffn_hidden_size;  // none = ffn_hidden_size
  Json moe_layer_freq = 1;                     // N: layers 0, N, 2N, …; or a list of 0 | 1
  int64_t moe_router_topk = 2;
  Json moe_router_load_balancing_type = "aux_loss";  // name or list of names
  Json moe_aux_loss_coeff = 0.0;                     // number or list of numbers
  std::optional<double> moe_z_loss_coeff;
  std::string moe_router_score_function = "softmax";
  bool moe_router_pre_softmax = false;
  std::optional<std::string> moe_router_dtype;  // none | fp32: routers always compute in float32
  std::optional<int64_t> moe_router_num_groups;
  std::optional<int64_t> moe_router_group_topk;
  std::optional<double> moe_router_topk_scaling_factor;
  bool moe_router_enable_expert_bias = false;
  double moe_router_bias_update_rate = 1e-3;
  std::optional<double> moe_expert_capacity_factor;  // negative = none
  bool moe_pad_expert_input_to_capacity = false;     // changes no value
  std::string moe_token_drop_policy = "probs";
  std::optional<int64_t> moe_shared_expert_intermediate_size;
  bool moe_shared_expert_gate = false;
  std::optional<int64_t> moe_latent_size;
  bool moe_apply_probs_on_input = false;
  std::optional<double> moe_input_jitter_eps;
  bool moe_router_padding_for_quantization = false;
  bool moe_router_force_load_balancing = false;
  int64_t moe_n_hash_layers = 0;
  bool moe_grouped_gemm = false;  // how upstream computes, and how it names weights
  bool moe_single_grouped_weight = false;
  bool moe_single_grouped_bias = false;
  std::string moe_token_dispatcher_type = "allgather";
  bool operator==(const MegatronMoe&) const = default;

  template <class V>
  static void visit(V& v) {
    using M = MegatronMoe;
    using config::kMaxWidth;
    v.field("num_moe_experts", &M::num_moe_experts, "routed experts",
            at_least(-config::kMaxExperts));
    v.field("moe_ffn_hidden_size", &M::moe_ffn_hidden_size, "inner width", between(1, kMaxWidth));
    v.field("moe_layer_freq", &M::moe_layer_freq, "which layers have experts");
    v.field("moe_router_topk", &M::moe_router_topk, "experts a token chooses",
            between(1, config::kMaxExperts));
    v.field("moe_router_load_balancing_type", &M::moe_router_load_balancing_type, "losses");
    v.field("moe_aux_loss_coeff", &M::moe_aux_loss_coeff, "their weights");
    v.field("moe_z_loss_coeff", &M::moe_z_loss_coeff, "mean(logsumexp²)", at_least(0));
    v.field("moe_router_score_function", &M::moe_router_score_function, "score of a logit",
            one_of({"softmax", "sigmoid", "sqrtsoftplus"}));
    v.field("moe_router_pre_softmax", &M::moe_router_pre_softmax, "softmax before the choice");
    v.field("moe_router_dtype", &M::moe_router_dtype, "none | fp32", one_of({"fp32", "fp64"}));
    v.field("moe_router_num_groups", &M::moe_router_num_groups, "groups of experts",
            between(1, config::kMaxExperts));
    v.field("moe_router_group_topk", &M::moe_router_group_topk, "groups that are kept",
            between(1, config::kMaxExperts));
    v.field("moe_router_topk_scaling_factor", &M::moe_router_topk_scaling_factor, "of weights",
            above(0));
    v.field("moe_router_enable_expert_bias", &M::moe_router_enable_expert_bias, "for the choice");
    v.field("moe_router_bias_update_rate", &M::moe_router_bias_update_rate, "of that bias",
            at_least(0));
    v.field("moe_expert_capacity_factor", &M::moe_expert_capacity_factor, "negative = none");
    v.field("moe_pad_expert_input_to_capacity", &M::moe_pad_expert_input_to_capacity, "no change");
    v.field("moe_token_drop_policy", &M::moe_token_drop_policy, "what a full expert keeps",
            one_of({"probs", "position"}));
    v.field("moe_shared_expert_intermediate_size", &M::moe_shared_expert_intermediate_size,
            "inner width of shared experts");
    v.field("moe_shared_expert_gate", &M::moe_shared_expert_gate, "sigmoid gate on them");
    v.field("moe_latent_size", &M::moe_latent_size, "width of routed experts",
            between(1, kMaxWidth));
    v.field("moe_apply_probs_on_input", &M::moe_apply_probs_on_input, "top-1 only");
    v.field("moe_input_jitter_eps", &M::moe_input_jitter_eps, "none or 0 only", at_least(0));
    v.field("moe_router_padding_for_quantization", &M::moe_router_padding_for_quantization,
            "false only");
    v.field("moe_router_force_load_balancing", &M::moe_router_force_load_balancing, "false only");
    v.field("moe_n_hash_layers", &M::moe_n_hash_layers, "0 only", at_least(0));
    v.field("moe_grouped_gemm", &M::moe_grouped_gemm, "names of weights");
    v.field("moe_single_grouped_weight", &M::moe_single_grouped_weight, "needs moe_grouped_gemm");
    v.field("moe_single_grouped_bias", &M::moe_single_grouped_bias, "needs moe_grouped_gemm");
    v.field("moe_token_dispatcher_type", &M::moe_token_dispatcher_type, "no effect in one process",
            one_of({"allgather", "alltoall", "flex"}));
  }
};

/// Rules of spec/variants.md §6.5; what is allowed upstream and missing here adds a line to
/// `unsupported`.
void check_megatron_moe(const MegatronConfig& config, const std::string& path, Problems& problems,
                        std::vector<std::string>& unsupported);

/// Whether layer `layer_number` (from 1) has experts: moe_layer_freq N means layers 1, N+1, 2N+1, …
bool layer_has_experts(const MegatronConfig& config, int64_t layer_number);

/// The mixture of every layer that has one. `dense` is the MLP of the others.
/// Test: tests/unit/spec/megatron_moe_test.cpp
MoeSpec megatron_moe(const MegatronConfig& config, const DenseMlpSpec& dense);

}  // namespace headway::spec
