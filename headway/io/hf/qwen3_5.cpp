// Families `qwen3_5_text` and `qwen3_5_moe_text`: the hybrid decoder with its linear projections
// one after the other; dense, or with a mixture of experts in every layer. `qwen3_5` and
// `qwen3_5_moe` are composite models of which the text part is read.
// Not for: images (a text model turns all rotary axes alike, so the sections change nothing).
#include "headway/io/hf/hybrid_decoder.h"
#include "headway/io/hf/moe_family.h"
#include "headway/io/hf/mtp_family.h"
#include "headway/io/hf/qwen_experts.h"

namespace headway::io {
namespace {

constexpr QwenExperts kExperts{.num_experts = 256, .top_k = 8, .width = 512, .shared_width = 512};
constexpr std::string_view kMtpKey = "mtp_num_hidden_layers";
constexpr MoeForm kForm{.normalize = true, .shared = true, .shared_gate = true};

size_t read_mtp(ConfigReader& config) {
  if (config.boolean("mtp_use_dedicated_embeddings", false)) {
    config.problem("mtp_use_dedicated_embeddings", "false");
  }
  return read_one_mtp_layer(config, kMtpKey);
}

spec::ModelSpec read_dense(ConfigReader& config) {
  const size_t mtp = read_mtp(config);
  spec::ModelSpec model = read_hybrid_decoder(config, mtp);
  split_mtp(model, mtp);
  return model;
}

spec::ModelSpec read_moe(ConfigReader& config) {
  const size_t mtp = read_mtp(config);
  spec::ModelSpec model = read_hybrid_decoder(config, mtp, /*has_dense_mlp=*/false);
  const auto activation = std::get<spec::DenseMlpSpec>(model.layers.front().mlp).activation;
  const int64_t experts = read_expert_count(config, kExperts);
  if (experts == 0) config.problem("num_experts", "at least 1");
  const spec::MoeSpec moe = read_qwen_experts(config, activation, experts, kExperts);
  for (spec::LayerSpec& layer : model.layers) layer.mlp = moe;
  split_mtp(model, mtp);
  return model;
}

std::vector<std::string> dense_inexpressible(const spec::ModelSpec& spec) {
  Reasons reasons;
  hybrid_reasons(spec, reasons);
  return reasons.lines();
}

std::vector<std::string> moe_inexpressible(const spec::ModelSpec& spec) {
  Reasons reasons;
  hybrid_reasons(spec, reasons);
  moe_reasons(spec, kForm, reasons);
  for (size_t i = 0; i < block_count(spec); ++i) {
    const spec::LayerSpec& layer = spec::block_at(spec, static_cast<int64_t>(i));
    if (spec::moe_of(layer) == nullptr) reasons.add_layer(i, "a dense MLP");
  }
  return reasons.lines();
}

Json write_dense(const spec::ModelSpec& spec) {
  Json json = write_hybrid_decoder(spec);
  if (spec.mtp) json[std::string(kMtpKey)] = 1;
  return json;
}

Json write_moe(const spec::ModelSpec& spec) {
  Json json = write_dense(spec);
  json.erase("intermediate_size");
  write_qwen_experts(spec, kExperts, json);
  return json;
}

/// The text model of a composite config; both levels may say whether the head is tied, the outer
/// one counts.
spec::ModelSpec read_inner(ConfigReader& config, spec::ModelSpec (*read)(ConfigReader&)) {
  auto text = config.object(kTextConfig);
  if (!text) config.problem(kTextConfig, "an object: the text model");
  config.throw_if_any();
  spec::ModelSpec model = read(*text);
  model.head.tied = config.boolean("tie_word_embeddings", model.head.tied);
  return model;
}

spec::ModelSpec read_composite(ConfigReader& config) { return read_inner(config, read_dense); }
spec::ModelSpec read_moe_composite(ConfigReader& config) { return read_inner(config, read_moe); }

Json write_inner(Json text, const Family& family) {
  text["model_type"] = family.name;
  return {{kTextConfig, text}, {"tie_word_embeddings", text["tie_word_embeddings"]}};
}

Json write_composite(const spec::ModelSpec& spec) {
  return write_inner(write_dense(spec), qwen3_5_text_family());
}
Json write_moe_composite(const spec::ModelSpec& spec) {
  return write_inner(write_moe(spec), qwen3_5_moe_text_family());
}

std::vector<Rule> rules(const spec::ModelSpec& spec) {
  std::vector<Rule> rules = hybrid_rules(spec);
  const std::string linear = "model.layers.{}.linear_attn.";
  rules.push_back(
      MapRule{{linear + "q_proj.weight", linear + "k_proj.weight", linear + "v_proj.weight"},
              {linear + "in_proj_qkv.weight"},
              &kConcatRows});
  for (const std::string part : {"z", "b", "a"}) {
    rules.push_back(
        MapRule{{linear + part + "_proj.weight"}, {linear + "in_proj_" + part + ".weight"}});
  }
  rules.push_back(IgnoreRule{"model.visual.*", "not part of the text model"});
  return with_mtp_scope(spec, rules);
}

/// A text family inside a composite model.
Family composite_of(const Family& text, std::string_view name, std::string_view architecture) {
  Family family = text;
  family.name = name;
  family.architecture = architecture;
  family.model_scope = "model.language_model.";
  return family;
}

}  // namespace

const Family& qwen3_5_family() {
  static const Family kFamily = [] {
    Family family =
        composite_of(qwen3_5_text_family(), "qwen3_5", "Qwen3_5ForConditionalGeneration");
    family.read = read_composite;
    family.write = write_composite;
    return family;
  }();
  return kFamily;
}

const Family& qwen3_5_moe_family() {
  static const Family kFamily = [] {
    Family family = composite_of(qwen3_5_moe_text_family(), "qwen3_5_moe",
                                 "Qwen3_5MoeForConditionalGeneration");
    family.read = read_moe_composite;
    family.write = write_moe_composite;
    return family;
  }();
  return kFamily;
}

const Family& qwen3_5_text_family() {
  static const Family kFamily{.name = "qwen3_5_text",
                              .architecture = "Qwen3_5ForCausalLM",
                              .read = read_dense,
                              .inexpressible = dense_inexpressible,
                              .write = write_dense,
                              .rules = rules,
                              .knows = {.linear_attention = true, .mtp = true},
                              .mtp_key = kMtpKey};
  return kFamily;
}

const Family& qwen3_5_moe_text_family() {
  static const Family kFamily{.name = "qwen3_5_moe_text",
                              .architecture = "Qwen3_5MoeForCausalLM",
                              .read = read_moe,
                              .inexpressible = moe_inexpressible,
                              .write = write_moe,
                              .rules = rules,
                              .knows = {.experts = true, .linear_attention = true, .mtp = true},
                              .mtp_key = kMtpKey};
  return kFamily;
}

}  // namespace headway::io
