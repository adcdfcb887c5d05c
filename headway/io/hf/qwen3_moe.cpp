// Family `qwen3_moe`: qwen3's attention, a mixture of experts in some layers or in all.
// Not for: qwen3_next and qwen3_5, whose layers attend differently.
#include <algorithm>
#include <set>

#include <fmt/format.h>

#include "headway/io/hf/moe_family.h"
#include "headway/io/hf/plain_decoder.h"

namespace headway::io {
namespace {

constexpr const char* kSliding = "sliding_attention";

/// Which layers have experts: those after every decoder_sparse_step-th, but mlp_only_layers.
std::vector<bool> read_sparse(ConfigReader& config, size_t layers) {
  const int64_t step = config.integer("decoder_sparse_step", {1, config::kMaxLayers}, 1);
  std::set<int64_t> dense;
  if (const Json* list = config.find("mlp_only_layers")) {
    const bool numbers = list->is_array() && std::ranges::all_of(*list, [](const Json& item) {
                           return item.is_number_integer() && item >= 0;
                         });
    if (!numbers) config.problem("mlp_only_layers", "a list of layer numbers");
    for (size_t i = 0; numbers && i < list->size(); ++i) dense.insert((*list)[i].get<int64_t>());
  }
  std::vector<bool> sparse(layers);
  for (size_t i = 0; i < layers; ++i) {
    const auto number = static_cast<int64_t>(i);
    sparse[i] = (number + 1) % step == 0 && !dense.contains(number);
  }
  return sparse;
}

/// A key with two names that must agree.
int64_t read_experts(ConfigReader& config) {
  constexpr int64_t kDefault = 128;
  const IntegerRange range{0, config::kMaxExperts};
  const auto name = config.optional_integer("num_experts", range);
  const auto other = config.optional_integer("num_local_experts", range);
  if (name && other && *name != *other) {
    config.problem("num_local_experts", fmt::format("the value of num_experts (= {})", *name));
  }
  return name ? *name : other.value_or(kDefault);
}

spec::MoeSpec read_moe(ConfigReader& config, spec::Activation activation, int64_t experts) {
  spec::MoeSpec moe;
  moe.num_experts = std::max<int64_t>(experts, 1);
  moe.top_k = config.integer("num_experts_per_tok", {1, config::kMaxExperts}, 8);
  moe.intermediate_size = config.integer("moe_intermediate_size", {1, config::kMaxWidth}, 768);
  moe.activation = activation;
  moe.router.normalize = config.boolean("norm_topk_prob", false);
  return moe;
}

spec::ModelSpec read(ConfigReader& config) {
  spec::ModelSpec model = read_plain_decoder(config, {.max_positions = 32768});
  const bool bias = config.boolean("attention_bias", false);
  const bool uses_window = config.boolean("use_sliding_window", false);
  constexpr int64_t kDefaultWindow = 4096;
  const bool is_absent = !config.is_present("sliding_window");
  auto window = config.optional_integer("sliding_window", {1, config::kMaxTokens});
  if (is_absent) window = kDefaultWindow;
  config.mark("max_window_layers");  // without effect in this family
  const auto sparse = read_sparse(config, model.layers.size());
  const auto activation = std::get<spec::DenseMlpSpec>(model.layers.front().mlp).activation;
  const int64_t experts = read_experts(config);
  const spec::MoeSpec moe = read_moe(config, activation, experts);
  const auto norm = model.head.final_norm;
  for_each_attention(model, [&](size_t i, spec::AttentionSpec& attention) {
    attention.q_norm = norm;
    attention.k_norm = norm;
    attention.qkv_bias = bias;
    attention.output_bias = bias;
    if (uses_window) attention.window = window;
    if (attention.window) model.layers[i].block = kSliding;
    if (sparse[i] && experts > 0) model.layers[i].mlp = moe;
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
  json["decoder_sparse_step"] = 1;
  json["mlp_only_layers"] = Json::array();
  for (size_t i = 0; i < spec.layers.size(); ++i) {
    if (spec::moe_of(spec.layers[i]) == nullptr) json["mlp_only_layers"].push_back(i);
  }
  const spec::MoeSpec* moe = first_moe(spec);
  if (moe == nullptr) return json;
  json["num_experts"] = moe->num_experts;
  json["num_experts_per_tok"] = moe->top_k;
  json["moe_intermediate_size"] = moe->intermediate_size;
  json["norm_topk_prob"] = moe->router.normalize;
  return json;
}

std::vector<Rule> rules() {
  std::vector<Rule> rules = fused_expert_rules("model.layers.{}.mlp.experts");
  rules.push_back(IgnoreRule{"*rotary_emb.inv_freq", "computed from the config"});
  return rules;
}

}  // namespace

const Family& qwen3_moe_family() {
  static const Family kFamily{"qwen3_moe", "Qwen3MoeForCausalLM", read, inexpressible, write,
                              rules,       /*has_experts=*/true};
  return kFamily;
}

}  // namespace headway::io
