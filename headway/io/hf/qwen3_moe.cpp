// Family `qwen3_moe`: qwen3's attention, a mixture of experts in some layers or in all.
// Not for: qwen3_next and qwen3_5, whose layers attend differently.
#include "headway/io/hf/moe_family.h"
#include "headway/io/hf/plain_decoder.h"
#include "headway/io/hf/qwen_experts.h"

namespace headway::io {
namespace {

constexpr const char* kSliding = "sliding_attention";

constexpr QwenExperts kExperts{.normalize = false};

spec::ModelSpec read(ConfigReader& config) {
  spec::ModelSpec model = read_plain_decoder(config, {.max_positions = 32768});
  const bool bias = config.boolean("attention_bias", false);
  const bool uses_window = config.boolean("use_sliding_window", false);
  constexpr int64_t kDefaultWindow = 4096;
  const bool is_absent = !config.is_present("sliding_window");
  auto window = config.optional_integer("sliding_window", {1, config::kMaxTokens});
  if (is_absent) window = kDefaultWindow;
  config.mark("max_window_layers");  // without effect in this family
  add_qwen_experts(config, model, kExperts);
  const auto norm = model.head.final_norm;
  for_each_attention(model, [&](size_t i, spec::AttentionSpec& attention) {
    attention.q_norm = norm;
    attention.k_norm = norm;
    attention.qkv_bias = bias;
    attention.output_bias = bias;
    if (uses_window) attention.window = window;
    if (attention.window) model.layers[i].block = kSliding;
  });
  return model;
}

std::vector<std::string> inexpressible(const spec::ModelSpec& spec) {
  Reasons reasons;
  plain_reasons(spec, {.has_qk_norm = true, .has_experts = true}, reasons);
  moe_reasons(spec, {}, reasons);
  const auto& first = std::get<spec::AttentionSpec>(spec.layers.front().mixer);
  const spec::MoeSpec* moe = first_moe(spec);
  for (size_t i = 0; i < spec.layers.size(); ++i) {
    const auto& attention = std::get<spec::AttentionSpec>(spec.layers[i].mixer);
    if (attention.window != first.window) reasons.add_layer(i, "another window than layer 0");
    if (attention.qkv_bias != attention.output_bias) {
      reasons.add_layer(i, "a bias on only one of qkv and output projection");
    }
    const auto* dense = std::get_if<spec::DenseMlpSpec>(&spec.layers[i].mlp);
    if (dense == nullptr) continue;
    if (dense->bias) reasons.add_layer(i, "MLP biases");
    if (moe != nullptr && dense->activation != moe->activation) {
      reasons.add_layer(i, "another activation than that of the experts");
    }
  }
  return reasons.lines();
}

Json write(const spec::ModelSpec& spec) {
  Json json = write_plain_decoder(spec);
  const auto window = common_window(spec);
  json["attention_bias"] = std::get<spec::AttentionSpec>(spec.layers.front().mixer).qkv_bias;
  json["use_sliding_window"] = window.has_value();
  json["sliding_window"] = window ? Json(*window) : Json(nullptr);
  write_sparse_layers(spec, json);
  write_qwen_experts(spec, kExperts, json);
  return json;
}

std::vector<Rule> rules(const spec::ModelSpec&) {
  std::vector<Rule> rules = fused_expert_rules("model.layers.{}.mlp.experts");
  rules.push_back(IgnoreRule{"*rotary_emb.inv_freq", "computed from the config"});
  return rules;
}

}  // namespace

const Family& qwen3_moe_family() {
  static const Family kFamily{"qwen3_moe", "Qwen3MoeForCausalLM", read, inexpressible, write,
                              rules,       {.experts = true}};
  return kFamily;
}

}  // namespace headway::io
