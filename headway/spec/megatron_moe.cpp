// See megatron_moe.h. Not for: reading arguments (megatron_fields.cpp).
#include "headway/spec/megatron_moe.h"

#include <algorithm>
#include <array>
#include <string_view>

#include <fmt/format.h>

#include "headway/base/text_util.h"
#include "headway/spec/megatron_check.h"
#include "headway/spec/megatron_config.h"

namespace headway::spec {
namespace {

struct LossName {
  std::string_view name;
  BalanceKind kind;
};
constexpr auto kLosses = std::to_array<LossName>({{"aux_loss", BalanceKind::kBatch},
                                                  {"seq_aux_loss", BalanceKind::kSequence},
                                                  {"global_aux_loss", BalanceKind::kGlobal}});

/// A value that may be one or a list, as a list.
std::vector<Json> as_list(const Json& value) {
  if (!value.is_array()) return {value};
  return {value.begin(), value.end()};
}

const LossName* loss_named(const Json& name) {
  const auto found = std::find_if(kLosses.begin(), kLosses.end(),
                                  [&](const LossName& loss) { return name == loss.name; });
  return found == kLosses.end() ? nullptr : &*found;
}

bool is_sinkhorn(const MegatronMoe& config) {
  const auto types = as_list(config.moe_router_load_balancing_type);
  return std::find(types.begin(), types.end(), Json("sinkhorn")) != types.end();
}

class Checker {
 public:
  Checker(const MegatronConfig& config, const std::string& path, Problems& problems,
          std::vector<std::string>& unsupported)
      : c_(config), path_(path), problems_(problems), unsupported_(unsupported) {}

  void run() {
    if (!c_.num_moe_experts) return check_without_experts();
    if (*c_.num_moe_experts <= 0) {
      return bad("num_moe_experts", std::to_string(*c_.num_moe_experts), "an integer >= 1");
    }
    check_layers();
    check_losses();
    check_choices();
    check_capacity();
    check_experts();
    refuse_missing();
  }

 private:
  void bad(std::string_view field, const std::string& got, const std::string& allowed) {
    problems_.add_value(join_path(path_, field), got, allowed);
  }
  void missing(std::string_view field, const std::string& got, std::string_view feature) {
    unsupported_.push_back(
        fmt::format("{} = {}: {} not in this build", join_path(path_, field), got, feature));
  }

  void check_without_experts() {
    if (c_.moe_ffn_hidden_size) {
      bad("moe_ffn_hidden_size", std::to_string(*c_.moe_ffn_hidden_size),
          "only with num_moe_experts");
    }
    if (c_.expert_model_parallel_size > 1) {
      bad("expert_model_parallel_size", std::to_string(c_.expert_model_parallel_size),
          "1 without num_moe_experts");
    }
  }

  void check_layers() {
    const Json& freq = c_.moe_layer_freq;
    if (freq.is_number_integer() && freq >= 1) return;
    if (!freq.is_array()) {
      return problems_.add(join_path(path_, "moe_layer_freq"),
                           fmt::format("Invalid moe_layer_freq: {}; allowed an integer >= 1 or a "
                                       "list of 0 | 1",
                                       json_summary(freq)));
    }
    if (static_cast<int64_t>(freq.size()) != c_.num_layers) {
      problems_.add(join_path(path_, "moe_layer_freq"),
                    fmt::format("Invalid length of moe_layer_pattern: {}, allowed num_layers (= "
                                "{})",
                                freq.size(), c_.num_layers));
    }
    for (const Json& entry : freq) {
      if (entry == 0 || entry == 1) continue;
      return bad("moe_layer_freq", json_summary(entry), "0 or 1 for each layer");
    }
  }

  void check_losses() {
    const auto types = as_list(c_.moe_router_load_balancing_type);
    const auto weights = as_list(c_.moe_aux_loss_coeff);
    const bool lists =
        c_.moe_router_load_balancing_type.is_array() || c_.moe_aux_loss_coeff.is_array();
    if (lists && types.size() != weights.size()) {
      bad("moe_aux_loss_coeff", fmt::format("{} numbers", weights.size()),
          fmt::format("as many as moe_router_load_balancing_type has names (= {})", types.size()));
    }
    for (const Json& type : types) {
      if (loss_named(type) != nullptr || type == "none") continue;
      if (type == "sinkhorn") {
        if (types.size() > 1) {
          bad("moe_router_load_balancing_type", "sinkhorn among others", "sinkhorn alone");
        }
        continue;
      }
      bad("moe_router_load_balancing_type", json_summary(type),
          "aux_loss | seq_aux_loss | global_aux_loss | sinkhorn | none");
    }
    for (const Json& weight : weights) {
      if (weight.is_number() && weight >= 0) continue;
      bad("moe_aux_loss_coeff", json_summary(weight), "a number >= 0");
    }
  }

  void check_choices() {
    const int64_t experts = *c_.num_moe_experts, top_k = c_.moe_router_topk;
    const bool softmax = c_.moe_router_score_function == "softmax";
    if (top_k > experts) {
      bad("moe_router_topk", std::to_string(top_k),
          fmt::format("at most num_moe_experts (= {})", experts));
    }
    if (is_sinkhorn(c_)) check_sinkhorn();
    if (softmax && top_k == 1 && !c_.moe_router_pre_softmax && !is_sinkhorn(c_)) {
      bad("moe_router_topk", "1", "with softmax only with moe_router_pre_softmax = true");
    }
    if (softmax && c_.moe_router_enable_expert_bias) {
      bad("moe_router_enable_expert_bias", "true",
          "only with moe_router_score_function sigmoid | sqrtsoftplus (expert bias)");
    }
    if (c_.moe_router_group_topk && !c_.moe_router_num_groups) {
      bad("moe_router_group_topk", std::to_string(*c_.moe_router_group_topk),
          "only with moe_router_num_groups");
    }
    if (!c_.moe_router_num_groups) return;
    const int64_t groups = *c_.moe_router_num_groups;
    if (!c_.moe_router_group_topk) {
      problems_.add(join_path(path_, "moe_router_group_topk"),
                    "missing; moe_router_num_groups needs it");
      return;
    }
    if (experts % groups != 0) {
      bad("moe_router_num_groups", std::to_string(groups),
          fmt::format("a divisor of num_moe_experts (= {})", experts));
    }
    const int64_t kept = *c_.moe_router_group_topk;
    if (kept > groups || kept > top_k) {
      bad("moe_router_group_topk", std::to_string(kept),
          fmt::format("at most moe_router_num_groups (= {}) and moe_router_topk (= {})", groups,
                      top_k));
    }
  }

  void check_sinkhorn() {
    if (c_.moe_router_score_function != "softmax" || c_.moe_router_num_groups) {
      bad("moe_router_load_balancing_type", "sinkhorn",
          "only with moe_router_score_function softmax and without moe_router_num_groups");
    }
    if (c_.moe_expert_capacity_factor.value_or(-1) >= 0) {
      bad("moe_expert_capacity_factor", format_double(*c_.moe_expert_capacity_factor),
          "only with moe_router_load_balancing_type aux_loss | seq_aux_loss | global_aux_loss | "
          "none");
    }
  }

  void check_capacity() {
    const bool limited = c_.moe_expert_capacity_factor && *c_.moe_expert_capacity_factor >= 0;
    if (c_.moe_pad_expert_input_to_capacity && !limited) {
      bad("moe_pad_expert_input_to_capacity", "true", "only with moe_expert_capacity_factor");
    }
    if (limited && *c_.moe_expert_capacity_factor == 0) {
      bad("moe_expert_capacity_factor", "0", "a number > 0, or negative for none");
    }
  }

  void check_experts() {
    if (c_.moe_shared_expert_intermediate_size) {
      const int64_t size = *c_.moe_shared_expert_intermediate_size;
      if (size <= 0) {
        bad("moe_shared_expert_intermediate_size", std::to_string(size), "an integer >= 1");
      }
      if (c_.add_bias_linear) {
        bad("add_bias_linear", "true", "false with moe_shared_expert_intermediate_size");
      }
    } else if (c_.moe_shared_expert_gate) {
      bad("moe_shared_expert_gate", "true", "only with moe_shared_expert_intermediate_size");
    }
    if (c_.moe_apply_probs_on_input && c_.moe_router_topk != 1) {
      bad("moe_apply_probs_on_input", "true",
          fmt::format("only with moe_router_topk 1 (= {})", c_.moe_router_topk));
    }
    const bool low_precision = asks_for(c_.fp8) || asks_for(c_.fp4);
    if (c_.moe_router_padding_for_quantization &&
        (!low_precision || c_.moe_token_dispatcher_type == "allgather")) {
      bad("moe_router_padding_for_quantization", "true",
          "only with fp8 or fp4 and a dispatcher other than allgather");
    }
    for (const auto& [on, name] :
         {std::pair{c_.moe_single_grouped_weight, "moe_single_grouped_weight"},
          std::pair{c_.moe_single_grouped_bias, "moe_single_grouped_bias"}}) {
      if (on && !c_.moe_grouped_gemm) bad(name, "true", "only with moe_grouped_gemm = true");
    }
  }

  void refuse_missing() {
    if (c_.moe_input_jitter_eps.value_or(0) > 0) {
      missing("moe_input_jitter_eps", format_double(*c_.moe_input_jitter_eps),
              "random factors on a router's input are");
    }
    if (c_.moe_n_hash_layers > 0) {
      missing("moe_n_hash_layers", std::to_string(c_.moe_n_hash_layers),
              "routing by a table of token ids is");
    }
    if (c_.moe_router_force_load_balancing) {
      missing("moe_router_force_load_balancing", "true", "random routing is");
    }
    if (c_.moe_router_dtype == "fp64") {
      missing("moe_router_dtype", "fp64", "a float64 router in a narrower model is");
    }
  }

  const MegatronConfig& c_;
  const std::string& path_;
  Problems& problems_;
  std::vector<std::string>& unsupported_;
};

RouterSpec router_of(const MegatronConfig& config) {
  RouterSpec router;
  if (config.moe_router_score_function == "sigmoid") router.score = RouterScore::kSigmoid;
  if (config.moe_router_score_function == "sqrtsoftplus") {
    router.score = RouterScore::kSqrtSoftplus;
  }
  router.normalize = router.score == RouterScore::kSoftmax ? !config.moe_router_pre_softmax
                                                           : config.moe_router_topk > 1;
  if (is_sinkhorn(config)) {
    // One choice is weighed by its own score, several by their share among all.
    router.sinkhorn = true;
    router.normalize = false;
    if (config.moe_router_topk == 1) router.score = RouterScore::kSigmoid;
    router.bias = config.add_bias_linear;
    router.z_loss = config.moe_z_loss_coeff.value_or(0.0);
    return router;
  }
  router.scale = config.moe_router_topk_scaling_factor.value_or(1.0);
  router.num_groups = config.moe_router_num_groups.value_or(1);
  router.kept_groups = config.moe_router_group_topk.value_or(1);
  router.bias = config.add_bias_linear;
  router.expert_bias = config.moe_router_enable_expert_bias;
  if (router.expert_bias) router.bias_update_rate = config.moe_router_bias_update_rate;
  const auto types = as_list(config.moe_router_load_balancing_type);
  const auto weights = as_list(config.moe_aux_loss_coeff);
  for (size_t i = 0; i < types.size(); ++i) {
    const LossName* loss = loss_named(types[i]);
    const double weight = weights[std::min(i, weights.size() - 1)].get<double>();
    if (loss != nullptr && weight > 0) router.losses.push_back({loss->kind, weight});
  }
  router.z_loss = config.moe_z_loss_coeff.value_or(0.0);
  return router;
}

}  // namespace

void check_megatron_moe(const MegatronConfig& config, const std::string& path, Problems& problems,
                        std::vector<std::string>& unsupported) {
  Checker(config, path, problems, unsupported).run();
}

bool layer_has_experts(const MegatronConfig& config, int64_t layer_number) {
  if (!config.num_moe_experts) return false;
  const Json& freq = config.moe_layer_freq;
  if (freq.is_number_integer()) return (layer_number - 1) % freq.get<int64_t>() == 0;
  return freq.at(static_cast<size_t>(layer_number - 1)) == 1;
}

MoeSpec megatron_moe(const MegatronConfig& config, const DenseMlpSpec& dense) {
  MoeSpec moe;
  moe.num_experts = config.num_moe_experts.value();
  moe.top_k = config.moe_router_topk;
  moe.intermediate_size = config.moe_ffn_hidden_size.value_or(dense.intermediate_size);
  moe.activation = dense.activation;
  moe.gated = dense.gated;
  moe.bias = dense.bias;
  moe.limit = dense.limit;
  moe.router = router_of(config);
  if (config.moe_expert_capacity_factor && *config.moe_expert_capacity_factor > 0) {
    moe.capacity.emplace();
    moe.capacity->factor = *config.moe_expert_capacity_factor;
    if (config.moe_token_drop_policy == "position") moe.capacity->drop = DropPolicy::kPosition;
  }
  if (config.moe_shared_expert_intermediate_size) {
    moe.shared.emplace();
    moe.shared->intermediate_size = *config.moe_shared_expert_intermediate_size;
    moe.shared->gate = config.moe_shared_expert_gate;
    moe.shared->limit = dense.limit;
  }
  moe.latent_size = config.moe_latent_size;
  moe.weight_input = config.moe_apply_probs_on_input;
  return moe;
}

}  // namespace headway::spec
