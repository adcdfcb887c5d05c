// Family `qwen3_next`: the hybrid decoder with its linear projections grouped by key head, dense
// layers and mixtures of experts.
// Not for: names shared with qwen3_5_text (hybrid_decoder.h).
#include "headway/io/hf/hybrid_decoder.h"
#include "headway/io/hf/moe_family.h"
#include "headway/io/hf/mtp_family.h"
#include "headway/io/hf/qwen_experts.h"

namespace headway::io {
namespace {

constexpr QwenExperts kExperts{
    .num_experts = 512, .top_k = 10, .width = 512, .shared_width = 512, .normalize = true};
constexpr std::string_view kMtpKey = "num_nextn_predict_layers";

spec::ModelSpec read(ConfigReader& config) {
  const size_t mtp = read_one_mtp_layer(config, kMtpKey);
  spec::ModelSpec model = read_hybrid_decoder(config, mtp);
  add_qwen_experts(config, model, kExperts);
  split_mtp(model, mtp);
  return model;
}

std::vector<std::string> inexpressible(const spec::ModelSpec& spec) {
  Reasons reasons;
  hybrid_reasons(spec, reasons);
  moe_reasons(spec, {.shared = true, .shared_gate = true}, reasons);
  return reasons.lines();
}

Json write(const spec::ModelSpec& spec) {
  Json json = write_hybrid_decoder(spec);
  json["num_experts"] = 0;
  write_sparse_layers(spec, json);
  if (spec.mtp) json[std::string(kMtpKey)] = 1;
  write_qwen_experts(spec, kExperts, json);
  return json;
}

std::vector<Rule> rules(const spec::ModelSpec& spec) {
  std::vector<Rule> rules = hybrid_rules(spec);
  const auto* mixer = first_linear(spec);
  if (mixer == nullptr) return with_mtp_scope(spec, rules);
  const std::string linear = "model.layers.{}.linear_attn.";
  rules.push_back(MapRule{{linear + "q_proj.weight", linear + "k_proj.weight",
                           linear + "v_proj.weight", linear + "z_proj.weight"},
                          {linear + "in_proj_qkvz.weight"},
                          &grouped_rows(mixer->num_key_heads)});
  rules.push_back(MapRule{{linear + "b_proj.weight", linear + "a_proj.weight"},
                          {linear + "in_proj_ba.weight"},
                          &grouped_rows(mixer->num_key_heads)});
  return with_mtp_scope(spec, rules);
}

}  // namespace

const Family& qwen3_next_family() {
  static const Family kFamily{.name = "qwen3_next",
                              .architecture = "Qwen3NextForCausalLM",
                              .read = read,
                              .inexpressible = inexpressible,
                              .write = write,
                              .rules = rules,
                              .knows = {.experts = true, .linear_attention = true, .mtp = true},
                              .mtp_key = kMtpKey};
  return kFamily;
}

}  // namespace headway::io
