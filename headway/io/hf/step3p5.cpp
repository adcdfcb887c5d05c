// Family `step3p5`, ModelSpec -> config.json in the published layout, and its tensor rules.
// Not for: reading configs (step3p5_read.cpp).
#include "headway/io/hf/step3p5.h"

#include <algorithm>

#include <fmt/format.h>

#include "headway/io/hf/family.h"
#include "headway/io/hf/reasons.h"
#include "headway/io/hf/rope_config.h"

namespace headway::io {
namespace {

using step3p5::kFull;
using step3p5::kSliding;

const spec::AttentionSpec& attention_at(const spec::ModelSpec& spec, size_t layer) {
  return std::get<spec::AttentionSpec>(spec.layers[layer].mixer);
}

const spec::DenseMlpSpec& mlp_at(const spec::ModelSpec& spec, size_t layer) {
  return std::get<spec::DenseMlpSpec>(spec.layers[layer].mlp);
}

/// First layer of each type, as both have one set of head counts.
struct FirstLayers {
  std::optional<size_t> full;
  std::optional<size_t> sliding;
};

FirstLayers first_layers(const spec::ModelSpec& spec) {
  FirstLayers first;
  for (size_t i = 0; i < spec.layers.size(); ++i) {
    auto& slot = attention_at(spec, i).window ? first.sliding : first.full;
    if (!slot) slot = i;
  }
  return first;
}

/// How frequencies are stretched, without what is per layer; nothing for plain positions.
std::optional<spec::RopeSpec> scaling_of(const spec::AttentionSpec& attention) {
  if (!attention.rope || attention.rope->kind == spec::RopeKind::kDefault) return std::nullopt;
  spec::RopeSpec rope = canonical_rope(*attention.rope);
  rope.base = spec::RopeSpec{}.base;
  rope.fraction = 1.0;
  return rope;
}

void layer_reasons(const spec::ModelSpec& spec, size_t i, size_t first_of_type, Reasons& reasons) {
  const spec::AttentionSpec& attention = attention_at(spec, i);
  const spec::AttentionSpec& first = attention_at(spec, first_of_type);
  const spec::DenseMlpSpec& mlp = mlp_at(spec, i);
  const auto add_if = [&](bool condition, const std::string& feature) {
    if (condition) reasons.add_layer(i, feature);
  };
  add_if(attention.num_heads != first.num_heads || attention.num_kv_heads != first.num_kv_heads ||
             attention.head_dim != first.head_dim,
         fmt::format("other head counts than layer {}, of the same type", first_of_type));
  add_if(attention.window != first.window, "windows of different lengths");
  add_if(attention.rope && first.rope && scaling_of(attention) != scaling_of(first),
         fmt::format("another rotary scaling than layer {}, of the same type", first_of_type));
  add_if(attention.gate.kind != spec::GateKind::kHeadWise, "no head-wise output gate");
  add_if(!attention.q_norm, "no q/k norm");
  add_if(attention.qkv_bias != attention.output_bias ||
             attention.qkv_bias != attention_at(spec, 0).qkv_bias,
         "attention biases on some projections only");
  add_if(mlp.activation != spec::Activation::kSilu,
         fmt::format("activation {} (the family's is silu)", enum_name(mlp.activation)));
  add_if(mlp.intermediate_size != mlp_at(spec, 0).intermediate_size ||
             mlp.bias != mlp_at(spec, 0).bias,
         "another MLP width or bias than layer 0");
}

std::vector<std::string> inexpressible(const spec::ModelSpec& spec) {
  Reasons reasons;
  common_reasons(spec, spec::NormWeight::kZeroCentered, reasons);
  const FirstLayers first = first_layers(spec);
  for (size_t i = 0; i < spec.layers.size(); ++i) {
    layer_reasons(spec, i, attention_at(spec, i).window ? *first.sliding : *first.full, reasons);
  }
  if (first.full && first.sliding) {
    const auto full = scaling_of(attention_at(spec, *first.full));
    const auto sliding = scaling_of(attention_at(spec, *first.sliding));
    reasons.add_if(full && sliding && full != sliding,
                   "different rotary scalings on full and on sliding layers");
  }
  return reasons.lines();
}

Json heads_json(const spec::AttentionSpec& attention) {
  return {{"num_attention_heads", attention.num_heads},
          {"num_attention_groups", attention.num_kv_heads},
          {"head_dim", attention.head_dim}};
}

void write_heads(const spec::ModelSpec& spec, const FirstLayers& first, Json& json) {
  const size_t full = first.full.value_or(first.sliding.value_or(0));
  const size_t sliding = first.sliding.value_or(full);
  json.update(heads_json(attention_at(spec, full)));
  Json other = {{"attention_type", kSliding}};
  other.update(heads_json(attention_at(spec, sliding)));
  json["attention_other_setting"] = other;
  json["layer_types"] = Json::array();
  for (size_t i = 0; i < spec.layers.size(); ++i) {
    json["layer_types"].push_back(attention_at(spec, i).window ? kSliding : kFull);
  }
  // transformers wants a window even where no layer has one; a full context then says nothing.
  json["sliding_window"] =
      first.sliding ? *attention_at(spec, *first.sliding).window : spec.max_positions;
}

void write_rope(const spec::ModelSpec& spec, const FirstLayers& first, Json& json) {
  const spec::RopeSpec plain;
  bool rotates_all = true;
  Json uses = Json::array();
  json["rope_theta"] = Json::array();
  json["partial_rotary_factors"] = Json::array();
  for (size_t i = 0; i < spec.layers.size(); ++i) {
    const auto& rope = attention_at(spec, i).rope;
    json["rope_theta"].push_back(rope.value_or(plain).base);
    json["partial_rotary_factors"].push_back(rope.value_or(plain).fraction);
    uses.push_back(rope ? 1 : 0);
    rotates_all = rotates_all && rope.has_value();
  }
  json["rope_scaling"] = nullptr;
  json["yarn_only_types"] = Json::array();
  for (const auto& [layer, type] :
       {std::pair(first.full, kFull), std::pair(first.sliding, kSliding)}) {
    const auto scaling = layer ? scaling_of(attention_at(spec, *layer)) : std::nullopt;
    if (!scaling) continue;
    json["rope_scaling"] = rope_scaling_json(*scaling);
    json["rope_scaling"].erase("partial_rotary_factor");  // stands in the list
    json["yarn_only_types"].push_back(type);
  }
  json["use_rope_layers"] = rotates_all ? Json::array() : uses;
}

void write_mlp(const spec::ModelSpec& spec, Json& json) {
  json["use_moe"] = false;
  json["moe_layers_enum"] = Json::array();
  json["num_nextn_predict_layers"] = 0;
  json["swiglu_limits"] = Json::array();
  json["swiglu_limits_shared"] = Json::array();
  for (size_t i = 0; i < spec.layers.size(); ++i) {
    json["swiglu_limits"].push_back(0.0);
    json["swiglu_limits_shared"].push_back(mlp_at(spec, i).limit.value_or(0.0));
  }
  if (mlp_at(spec, 0).bias) json["mlp_bias"] = true;
}

Json write(const spec::ModelSpec& spec) {
  const FirstLayers first = first_layers(spec);
  Json json;
  json["vocab_size"] = spec.embedding.vocab_size;
  json["hidden_size"] = spec.hidden_size;
  json["intermediate_size"] = mlp_at(spec, 0).intermediate_size;
  json["num_hidden_layers"] = spec.layers.size();
  write_heads(spec, first, json);
  write_rope(spec, first, json);
  json["max_position_embeddings"] = spec.max_positions;
  json["max_seq_len"] = spec.max_positions;
  json["rms_norm_eps"] = spec.head.final_norm->eps;
  json["zero_centered"] = true;
  json["use_qk_norm"] = true;
  json["use_head_wise_attn_gate"] = true;
  json["sink"] = false;
  json["att_impl_type"] = "GQA";
  if (attention_at(spec, 0).qkv_bias) json["attention_bias"] = true;
  json["hidden_act"] = "silu";
  write_mlp(spec, json);
  json["initializer_range"] = spec.init.std;
  json["tie_word_embeddings"] = spec.head.tied;
  json["pad_token_id"] = spec.embedding.padding_id.value_or(step3p5::kNoPadding);
  return json;
}

std::vector<Rule> rules() {
  const char* quantised = "a quantised checkpoint";
  return {IgnoreRule{"*rotary_emb.inv_freq", "computed from the config"},
          IgnoreRule{"*.k_proj.k_scale", "scale of a quantised key cache"},
          IgnoreRule{"*.v_proj.v_scale", "scale of a quantised value cache"},
          RefuseRule{"*.weight_scale*", quantised},
          RefuseRule{"*.input_scale", quantised},
          RefuseRule{"*.weight_packed", quantised}};
}

}  // namespace

const Family& step3p5_family() {
  static const Family kFamily{"step3p5", "Step3p5ForCausalLM", step3p5::read, inexpressible, write,
                              rules};
  return kFamily;
}

}  // namespace headway::io
