// Gemma 4 tensor names: published and text-only prefixes, stacked or single experts, tensors that
// carry nothing. Not for: configs (gemma4.cpp).
#include "headway/io/hf/gemma4.h"
#include "headway/spec/kv_sharing.h"

namespace headway::io::gemma4 {
namespace {

const char* const kTextPrefix = "model.";
const char* const kCompositePrefix = "model.language_model.";

/// Native name below `model.` and the family's below its prefix, where they differ; `{}` numbers.
struct Renamed {
  const char* native;
  const char* disk;
};

constexpr Renamed kOutside[] = {
    {"embed_tokens.weight", "embed_tokens.weight"},
    {"embed_tokens_per_layer.weight", "embed_tokens_per_layer.weight"},
    {"per_layer_model_projection.weight", "per_layer_model_projection.weight"},
    {"per_layer_projection_norm.weight", "per_layer_projection_norm.weight"},
    {"norm.weight", "norm.weight"}};

constexpr Renamed kInLayer[] = {
    {"pre_feedforward_layernorm_1.weight", "pre_feedforward_layernorm.weight"},
    {"mlp.gate.weight", "router.proj.weight"},
    {"mlp.gate.input_weight", "router.scale"},
    {"mlp.gate.expert_scale", "router.per_expert_scale"},
    {"input_layernorm.weight", "input_layernorm.weight"},
    {"post_attention_layernorm.weight", "post_attention_layernorm.weight"},
    {"pre_feedforward_layernorm.weight", "pre_feedforward_layernorm.weight"},
    {"post_feedforward_layernorm.weight", "post_feedforward_layernorm.weight"},
    {"post_feedforward_layernorm_1.weight", "post_feedforward_layernorm_1.weight"},
    {"pre_feedforward_layernorm_2.weight", "pre_feedforward_layernorm_2.weight"},
    {"post_feedforward_layernorm_2.weight", "post_feedforward_layernorm_2.weight"},
    {"self_attn.q_proj.weight", "self_attn.q_proj.weight"},
    {"self_attn.k_proj.weight", "self_attn.k_proj.weight"},
    {"self_attn.v_proj.weight", "self_attn.v_proj.weight"},
    {"self_attn.o_proj.weight", "self_attn.o_proj.weight"},
    {"self_attn.q_norm.weight", "self_attn.q_norm.weight"},
    {"self_attn.k_norm.weight", "self_attn.k_norm.weight"},
    {"mlp.gate_proj.weight", "mlp.gate_proj.weight"},
    {"mlp.up_proj.weight", "mlp.up_proj.weight"},
    {"mlp.down_proj.weight", "mlp.down_proj.weight"},
    {"per_layer_input_gate.weight", "per_layer_input_gate.weight"},
    {"per_layer_projection.weight", "per_layer_projection.weight"},
    {"post_per_layer_input_norm.weight", "post_per_layer_input_norm.weight"},
    {"layer_scalar", "layer_scalar"}};

/// All tensors below one prefix.
void add_layout(std::vector<Rule>& rules, const std::string& prefix, bool alternative) {
  const std::string native_layer = "model.layers.{}.", disk_layer = prefix + "layers.{}.";
  const std::string experts = native_layer + "mlp.experts.{*}.";
  const auto map = [&](std::vector<std::string> native, const std::string& disk,
                       const Transform& transform) {
    rules.emplace_back(MapRule{std::move(native), {disk}, &transform, alternative});
  };
  map({experts + "gate_proj.weight", experts + "up_proj.weight"},
      disk_layer + "experts.gate_up_proj", kStackPairs);
  map({experts + "down_proj.weight"}, disk_layer + "experts.down_proj", kStack);
  for (const Renamed& name : kOutside) {
    map({std::string("model.") + name.native}, prefix + name.disk, kCopy);
  }
  for (const Renamed& name : kInLayer) {
    map({native_layer + name.native}, disk_layer + name.disk, kCopy);
  }
}

/// Single experts, as other tools write them.
void add_single_experts(std::vector<Rule>& rules, const std::string& prefix) {
  for (const std::string part : {"gate_proj.weight", "up_proj.weight", "down_proj.weight"}) {
    for (const char* where : {"layers.{}.experts.{}.", "layers.{}.moe.experts.{}."}) {
      rules.emplace_back(MapRule{{"model.layers.{}.mlp.experts.{}." + part},
                                 {prefix + where + part},
                                 &kCopy,
                                 /*alternative=*/true});
    }
  }
}

/// Original releases keep key and value tensors in layers that read another layer's.
void ignore_unused_keys(std::vector<Rule>& rules, const spec::ModelSpec& spec) {
  for (size_t i = 0; i < spec.layers.size(); ++i) {
    if (!spec::kv_source_of(spec.layers[i])) continue;
    const std::string layer = "*.layers." + std::to_string(i) + ".self_attn.";
    for (const char* part : {"k_proj.weight", "v_proj.weight", "k_norm.weight", "v_norm.weight"}) {
      rules.emplace_back(
          IgnoreRule{layer + part, "keys and values of a layer that reads another's"});
    }
  }
}

std::vector<Rule> rules_of(const char* prefix, const spec::ModelSpec& spec) {
  std::vector<Rule> rules;
  const std::vector<std::string> known = {kTextPrefix, kCompositePrefix, "language_model.model.",
                                          "language_model."};
  for (const std::string& other : known) {
    add_single_experts(rules, other);
    if (other != prefix) add_layout(rules, other, /*alternative=*/true);
  }
  add_layout(rules, prefix, /*alternative=*/false);
  ignore_unused_keys(rules, spec);
  rules.emplace_back(IgnoreRule{"*rotary_emb.*inv_freq", "computed from the config"});
  for (const char* tower : {"vision_tower", "audio_tower", "embed_vision", "embed_audio",
                            "vision_embedder", "multi_modal_projector"}) {
    rules.emplace_back(IgnoreRule{"*" + std::string(tower) + ".*", "not part of the text model"});
  }
  return rules;
}

}  // namespace

std::vector<Rule> text_rules(const spec::ModelSpec& spec) { return rules_of(kTextPrefix, spec); }

std::vector<Rule> composite_rules(const spec::ModelSpec& spec) {
  return rules_of(kCompositePrefix, spec);
}

}  // namespace headway::io::gemma4
