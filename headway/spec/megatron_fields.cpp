// The tables of argument names without a typed field.
// Not for: what typed fields may hold.
#include "headway/spec/megatron_fields.h"

#include <algorithm>
#include <array>
#include <map>

#include <fmt/format.h>

#include "headway/base/fields.h"
#include "headway/base/text_util.h"
#include "headway/spec/block_arguments.h"
#include "headway/spec/megatron_config.h"

namespace headway::spec {
namespace {

struct Alias {
  std::string_view alias;
  std::string_view name;
};
constexpr auto kAliases = std::to_array<Alias>({
    {"use_head_wise_attn_gate", "head_wise_attn_gate"},
    {"attention_per_head_gate", "head_wise_attn_gate"},
    {"norm_epsilon", "layernorm_epsilon"},
    {"seq_len_interpolation_factor", "rotary_scaling_factor"},
    {"apply_layernorm_1p", "layernorm_zero_centered_gamma"},
    {"max_position_embeddings", "max_sequence_length"},
});

struct Switch {
  std::string_view name;
  std::string_view feature;
};
/// Anything but null, false, 0 or "" asks for a feature that is missing.
constexpr auto kSwitches = std::to_array<Switch>({
    {"heterogeneous_block_specs", "heterogeneous block specs"},
    {"virtual_pipeline_model_parallel_size", "pipeline parallelism"},
    {"add_position_embedding", "learned absolute positions"},
    {"scatter_embedding_sequence_parallel", "sequence parallelism"},
    {"apply_residual_connection_post_layernorm", "residuals taken after the norm"},
    {"fp32_residual_connection", "a float32 residual stream beside 16-bit layers"},
    {"quant_recipe", "quantisation"},
});

/// Change no value of a dense model: how upstream computes, logs or communicates, and details of
/// features whose own switch is checked.
constexpr auto kNoEffect = std::to_array<std::string_view>({
    "use_cpu_initialization",
    "perform_initialization",
    "params_dtype",
    "timers",
    "attention_softmax_in_fp32",
    "disable_bf16_reduced_precision_matmul",
    // fusion and kernel choice
    "bias_dropout_fusion",
    "masked_softmax_fusion",
    "persist_layer_norm",
    "memory_efficient_layer_norm",
    "gradient_accumulation_fusion",
    "bias_swiglu_fusion",
    "activation_func_fp8_input_store",
    "cross_entropy_loss_fusion",
    "cross_entropy_fusion_impl",
    "use_te_rng_tracker",
    "use_te_activation_func",
    "use_kitchen",
    "inference_rng_tracker",
    "inference_sampling_seed",
    "cuda_graph_scope",
    "cuda_graph_use_single_mempool",
    "cuda_graph_retain_backward_graph",
    "cuda_graph_warmup_steps",
    "external_cuda_graph",
    "deterministic_mode",
    // communication and scheduling
    "async_tensor_model_parallel_allreduce",
    "use_ring_exchange_p2p",
    "overlap_p2p_comm",
    "batch_p2p_comm",
    "batch_p2p_sync",
    "deallocate_pipeline_outputs",
    "defer_embedding_wgrad_compute",
    "wgrad_deferral_limit",
    "tp_comm_overlap",
    "tp_comm_bulk_wgrad",
    "tp_comm_bulk_dgrad",
    "tp_comm_overlap_ag",
    "tp_comm_overlap_rs",
    "tp_comm_overlap_rs_dgrad",
    "tp_comm_split_ag",
    "tp_comm_split_rs",
    "tp_comm_atomic_ag",
    "tp_comm_atomic_rs",
    "tp_only_amax_red",
    "distribute_saved_activations",
    "variable_seq_lengths",
    "barrier_with_L1_time",
    "pipeline_dtype",
    "autocast_dtype",
    "enable_autocast",
    "finalize_model_grads_func",
    "grad_scale_func",
    "no_sync_func",
    "grad_sync_func",
    "param_sync_func",
    "expert_tensor_parallel_size",
    "clone_scatter_output_in_embedding",
    "parallel_output",
    "pre_process",
    "post_process",
    "fp16_lm_cross_entropy",
    "is_hybrid_model",
    "embedding_init_method_std",
    "cpu_offloading_num_layers",
    "cpu_offloading_activations",
    "cpu_offloading_weights",
    "fp8_margin",
    "fp8_interval",
    "fp8_amax_history_len",
    "fp8_amax_compute_algo",
    "fp8_wgrad",
    "fp8_dot_product_attention",
    "fp8_multi_head_attention",
    "fp8_param",
    "fp4_recipe",
    "fp4_param",
    "first_last_layers_bf16",
    // how upstream computes mixtures of experts
    "moe_permute_fusion",
    "moe_router_fusion",
    "moe_shared_expert_overlap",
    "moe_layer_recompute",
    "moe_per_layer_logging",
    "moe_extended_tp",
    "moe_use_legacy_grouped_gemm",
    "moe_deepep_num_sms",
    "moe_enable_deepep",
    "moe_hybridep_num_sms",
});

bool is_off(const Json& value) {
  return value.is_null() || value == false || value == 0 || value == "";
}

/// Fields of block specs, which choose modules and pipeline stages: the model is the same.
bool is_block_name(const std::string& key) {
  static const std::vector<std::string> names = field_names<BlockArguments>();
  return std::find(names.begin(), names.end(), key) != names.end();
}

std::vector<std::string> every_name() {
  std::vector<std::string> names = field_names<MegatronConfig>();
  for (const Alias& entry : kAliases) names.emplace_back(entry.alias);
  for (const Switch& entry : kSwitches) names.emplace_back(entry.name);
  names.insert(names.end(), kNoEffect.begin(), kNoEffect.end());
  const std::vector<std::string> block = field_names<BlockArguments>();
  names.insert(names.end(), block.begin(), block.end());
  names.emplace_back("swiglu");
  return names;
}

const Switch* switch_of(const std::string& key) {
  const auto found = std::find_if(kSwitches.begin(), kSwitches.end(),
                                  [&](const Switch& entry) { return entry.name == key; });
  return found == kSwitches.end() ? nullptr : &*found;
}

class Sorter {
 public:
  Sorter(const std::string& path, Problems& problems, std::vector<std::string>& unsupported)
      : path_(path),
        problems_(problems),
        unsupported_(unsupported),
        typed_(field_names<MegatronConfig>()) {}

  void take(const std::string& key, const Json& value) {
    const auto alias = std::find_if(kAliases.begin(), kAliases.end(),
                                    [&](const Alias& entry) { return entry.alias == key; });
    if (alias != kAliases.end()) return set(std::string(alias->name), key, value);
    if (key == "swiglu") {
      if (value == true) {
        set("gated_linear_unit", key, true);
        set("activation_func", key, "silu");
      } else if (!is_off(value)) {
        problems_.add_value(join_path(path_, key), json_summary(value), "true | false");
      }
      return;
    }
    if (std::find(typed_.begin(), typed_.end(), key) != typed_.end()) return set(key, key, value);
    if (std::find(kNoEffect.begin(), kNoEffect.end(), key) != kNoEffect.end()) return;
    if (const Switch* found = switch_of(key)) return take_switch(*found, key, value);
    if (!is_block_name(key)) check_megatron_name(key, path_, problems_);
  }

  Json result() const { return result_; }

 private:
  void take_switch(const Switch& found, const std::string& key, const Json& value) {
    if (is_off(value)) return;
    unsupported_.push_back(fmt::format("{} = {}: {} is not in this build", join_path(path_, key),
                                       json_summary(value), found.feature));
  }

  void set(const std::string& name, const std::string& given_as, const Json& value) {
    const auto held = result_.find(name);
    if (held != result_.end() && *held != value) {
      problems_.add(join_path(path_, given_as),
                    fmt::format("{} = {} contradicts {} = {}", given_as, json_summary(value),
                                given_as_[name], json_summary(*held)));
      return;
    }
    result_[name] = value;
    given_as_[name] = given_as;
  }

  const std::string& path_;
  Problems& problems_;
  std::vector<std::string>& unsupported_;
  std::vector<std::string> typed_;
  Json result_ = Json::object();
  std::map<std::string, std::string> given_as_;
};

}  // namespace

void check_megatron_name(const std::string& key, const std::string& path, Problems& problems) {
  static const std::vector<std::string> names = every_name();
  if (std::find(names.begin(), names.end(), key) != names.end()) return;
  const auto near = nearest_name(key, names);
  problems.add(join_path(path, shorten(key)),
               near ? fmt::format("unknown key; did you mean {}?", *near)
                    : std::string("unknown key; allowed are the names of Megatron-Core's "
                                  "TransformerConfig that concern dense GPT models"));
}

Json typed_arguments(const Json& arguments, const std::string& path, Problems& problems,
                     std::vector<std::string>& unsupported) {
  if (!arguments.is_object()) {
    problems.add_value(path, json_summary(arguments), "a mapping of Megatron arguments");
    return Json::object();
  }
  Sorter sorter(path, problems, unsupported);
  for (const auto& [key, value] : arguments.items()) sorter.take(key, value);
  return sorter.result();
}

}  // namespace headway::spec
