// Family `minimax_m2`: q/k norms over all heads at once, partial rotation, sigmoid routing with a
// bias for the choice, experts in every layer.
// Not for: block-scaled FP8 weights of the released files.
#include <cmath>

#include <fmt/format.h>

#include "headway/base/text_util.h"
#include "headway/io/hf/moe_family.h"
#include "headway/io/hf/plain_decoder.h"

namespace headway::io {
namespace {

/// rotary_dim of released configs is a number of channels; partial_rotary_factor wins over it.
std::optional<double> read_rotary_fraction(ConfigReader& config) {
  const auto channels = config.optional_integer("rotary_dim", {1, config::kMaxHeadDim});
  const auto head_dim = config.optional_integer("head_dim", {1, config::kMaxHeadDim});
  if (!channels || !head_dim) return std::nullopt;
  return static_cast<double>(*channels) / static_cast<double>(*head_dim);
}

spec::MoeSpec read_moe(ConfigReader& config, const spec::DenseMlpSpec& mlp) {
  spec::MoeSpec moe;
  const IntegerRange range{1, config::kMaxExperts};
  const auto name = config.optional_integer("num_local_experts", range);
  const auto other = config.optional_integer("num_experts", range);
  if (name && other && *name != *other) {
    config.problem("num_experts", fmt::format("the value of num_local_experts (= {})", *name));
  }
  moe.num_experts = name    ? *name
                    : other ? *other
                            : config.required_integer("num_local_experts", range);
  moe.top_k = config.required_integer("num_experts_per_tok", range);
  moe.intermediate_size = mlp.intermediate_size;
  moe.activation = mlp.activation;
  moe.router.score = spec::RouterScore::kSigmoid;
  moe.router.expert_bias = true;
  moe.router.bias_update_rate = 0;
  return moe;
}

/// Keys of released configs that say what is always so in this family.
void check_fixed(ConfigReader& config) {
  if (config.text("scoring_func", "sigmoid") != "sigmoid") {
    config.problem("scoring_func", "sigmoid");
  }
  if (!config.boolean("use_routing_bias", true)) config.problem("use_routing_bias", "true");
  if (!config.boolean("use_qk_norm", true)) config.problem("use_qk_norm", "true");
  if (config.text("qk_norm_type", "per_layer") != "per_layer") {
    config.problem("qk_norm_type", "per_layer");
  }
  if (config.integer("shared_intermediate_size", {0, config::kMaxWidth}, 0) != 0) {
    config.problem("shared_intermediate_size", "0");
  }
}

spec::ModelSpec read(ConfigReader& config) {
  PlainDefaults defaults{.max_positions = 196608, .needs_kv_heads = true, .needs_head_dim = true};
  defaults.rope.base = 5e6;
  defaults.rope.partial = true;
  defaults.rope.fraction = read_rotary_fraction(config).value_or(1.0);
  spec::ModelSpec model = read_plain_decoder(config, defaults);
  check_fixed(config);
  const spec::MoeSpec moe =
      read_moe(config, std::get<spec::DenseMlpSpec>(model.layers.front().mlp));
  const auto norm = model.head.final_norm;
  for_each_attention(model, [&](size_t i, spec::AttentionSpec& attention) {
    attention.q_norm = norm;
    attention.k_norm = norm;
    attention.qk_norm_across_heads = true;
    model.layers[i].mlp = moe;
  });
  return model;
}

std::vector<std::string> inexpressible(const spec::ModelSpec& spec) {
  Reasons reasons;
  plain_reasons(spec,
                {.has_qk_norm = true,
                 .norms_across_heads = true,
                 .partial_rotation = true,
                 .has_experts = true},
                reasons);
  moe_reasons(spec, {.score = spec::RouterScore::kSigmoid, .expert_bias = true, .normalize = true},
              reasons);
  for (size_t i = 0; i < spec.layers.size(); ++i) {
    const auto& attention = std::get<spec::AttentionSpec>(spec.layers[i].mixer);
    if (spec::moe_of(spec.layers[i]) == nullptr) reasons.add_layer(i, "a dense MLP");
    if (attention.window) reasons.add_layer(i, "a sliding window");
    if (attention.qkv_bias || attention.output_bias) reasons.add_layer(i, "attention biases");
  }
  return reasons.lines();
}

Json write(const spec::ModelSpec& spec) {
  Json json = write_plain_decoder(spec);
  const spec::MoeSpec& moe = *first_moe(spec);
  const auto& attention = std::get<spec::AttentionSpec>(spec.layers.front().mixer);
  const double fraction = attention.rope->fraction;
  json["intermediate_size"] = moe.intermediate_size;
  json["num_local_experts"] = moe.num_experts;
  json["num_experts_per_tok"] = moe.top_k;
  // Both spellings of partial rotation, when the number of channels is whole.
  const double channels = fraction * static_cast<double>(attention.head_dim);
  json["partial_rotary_factor"] = fraction;
  if (channels == std::floor(channels)) json["rotary_dim"] = static_cast<int64_t>(channels);
  return json;
}

std::vector<Rule> rules(const spec::ModelSpec&) {
  const std::string native = "model.layers.{}.mlp.", disk = "model.layers.{}.block_sparse_moe.";
  const std::string native_expert = native + "experts.{}.", disk_expert = disk + "experts.{}.";
  std::vector<Rule> rules = fused_expert_rules("model.layers.{}.mlp.experts");
  const auto map = [&](const std::string& ours, const std::string& theirs) {
    rules.push_back(MapRule{{ours}, {theirs}});
  };
  map(native + "gate.weight", disk + "gate.weight");
  map(native + "gate.e_score_correction_bias", disk + "e_score_correction_bias");
  map(native_expert + "gate_proj.weight", disk_expert + "w1.weight");
  map(native_expert + "up_proj.weight", disk_expert + "w3.weight");
  map(native_expert + "down_proj.weight", disk_expert + "w2.weight");
  rules.push_back(IgnoreRule{"*rotary_emb.inv_freq", "computed from the config"});
  rules.push_back(RefuseRule{"*.weight_scale_inv", "a quantised checkpoint"});
  rules.push_back(RefuseRule{"model.layers.*.eh_proj.weight", "next-token prediction (MTP)"});
  return rules;
}

}  // namespace

const Family& minimax_m2_family() {
  static const Family kFamily{"minimax_m2", "MiniMaxM2ForCausalLM", read, inexpressible, write,
                              rules,        {.experts = true}};
  return kFamily;
}

}  // namespace headway::io
