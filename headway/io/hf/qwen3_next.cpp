// Family `qwen3_next`: the hybrid decoder with its linear projections grouped by key head.
// Not for: names shared with qwen3_5_text (hybrid_decoder.h).
#include "headway/base/error.h"
#include "headway/io/hf/hybrid_decoder.h"

namespace headway::io {
namespace {

/// Experts are chosen by num_experts, decoder_sparse_step and mlp_only_layers.
void refuse_experts(ConfigReader& config, size_t layers) {
  const int64_t experts = config.integer("num_experts", {0, 1 << 20}, 512);
  const int64_t step = config.integer("decoder_sparse_step", {1, config::kMaxLayers}, 1);
  const Json* dense = config.find("mlp_only_layers");
  for (size_t i = 0; i < layers; ++i) {
    const bool listed = dense != nullptr && dense->is_array() &&
                        std::find(dense->begin(), dense->end(), Json(i)) != dense->end();
    if (experts == 0 || listed || (static_cast<int64_t>(i) + 1) % step != 0) continue;
    throw UnsupportedError("[config.json] num_experts = " + std::to_string(experts) +
                           ": mixtures of experts of this family are not in this build; allowed 0");
  }
}

spec::ModelSpec read(ConfigReader& config) {
  spec::ModelSpec model = read_hybrid_decoder(config);
  refuse_experts(config, model.layers.size());
  return model;
}

std::vector<std::string> inexpressible(const spec::ModelSpec& spec) {
  Reasons reasons;
  hybrid_reasons(spec, reasons);
  return reasons.lines();
}

Json write(const spec::ModelSpec& spec) {
  Json json = write_hybrid_decoder(spec);
  json["num_experts"] = 0;
  json["decoder_sparse_step"] = 1;
  json["mlp_only_layers"] = Json::array();
  return json;
}

std::vector<Rule> no_rules() { return {}; }

std::vector<Rule> rules(const spec::ModelSpec& spec) {
  std::vector<Rule> rules = hybrid_rules(spec);
  const auto* mixer = first_linear(spec);
  if (mixer == nullptr) return rules;
  const std::string linear = "model.layers.{}.linear_attn.";
  rules.push_back(MapRule{{linear + "q_proj.weight", linear + "k_proj.weight",
                           linear + "v_proj.weight", linear + "z_proj.weight"},
                          {linear + "in_proj_qkvz.weight"},
                          &grouped_rows(mixer->num_key_heads)});
  rules.push_back(MapRule{{linear + "b_proj.weight", linear + "a_proj.weight"},
                          {linear + "in_proj_ba.weight"},
                          &grouped_rows(mixer->num_key_heads)});
  return rules;
}

}  // namespace

const Family& qwen3_next_family() {
  static const Family kFamily{.name = "qwen3_next",
                              .architecture = "Qwen3NextForCausalLM",
                              .read = read,
                              .inexpressible = inexpressible,
                              .write = write,
                              .rules = no_rules,
                              .has_linear_attention = true,
                              .rules_of = rules};
  return kFamily;
}

}  // namespace headway::io
