// Family `step3p5`, ModelSpec -> config.json in the published layout, and its tensor rules.
// Not for: reading configs (step3p5_read.cpp).
#include "headway/io/hf/step3p5.h"

#include <algorithm>

#include <fmt/format.h>

#include "headway/base/text_util.h"
#include "headway/io/hf/family.h"
#include "headway/io/hf/moe_family.h"
#include "headway/io/hf/reasons.h"
#include "headway/io/hf/rope_config.h"

namespace headway::io {
namespace {

using step3p5::kFull;
using step3p5::kSliding;

const spec::AttentionSpec& attention_at(const spec::ModelSpec& spec, size_t layer) {
  return std::get<spec::AttentionSpec>(spec::block_at(spec, static_cast<int64_t>(layer)).mixer);
}

/// The dense MLP of a layer; null for one with experts.
const spec::DenseMlpSpec* mlp_at(const spec::ModelSpec& spec, size_t layer) {
  return std::get_if<spec::DenseMlpSpec>(&spec::block_at(spec, static_cast<int64_t>(layer)).mlp);
}

const spec::DenseMlpSpec* first_mlp(const spec::ModelSpec& spec) {
  for (size_t i = 0; i < block_count(spec); ++i) {
    if (const auto* mlp = mlp_at(spec, i)) return mlp;
  }
  return nullptr;
}

/// First layer of each type, as both have one set of head counts.
struct FirstLayers {
  std::optional<size_t> full;
  std::optional<size_t> sliding;
};

FirstLayers first_layers(const spec::ModelSpec& spec) {
  FirstLayers first;
  for (size_t i = 0; i < block_count(spec); ++i) {
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
  add_if(attention.qk_norm_across_heads, "q/k norms across heads");
  const spec::LayerSpec& layer = spec::block_at(spec, static_cast<int64_t>(i));
  const spec::MoeSpec* moe = spec::moe_of(layer);
  const auto activation = moe != nullptr ? moe->activation : spec::dense_of(layer)->activation;
  add_if(activation != spec::Activation::kSilu,
         fmt::format("activation {} (the family's is silu)", enum_name(activation)));
  const spec::DenseMlpSpec* mlp = mlp_at(spec, i);
  if (mlp == nullptr) return;
  const spec::DenseMlpSpec& common = *first_mlp(spec);
  add_if(mlp->intermediate_size != common.intermediate_size || mlp->bias != common.bias,
         "another MLP width or bias than the first");
  add_if(mlp->bias && first_moe(spec) != nullptr, "biases of dense MLPs beside experts");
}

std::vector<std::string> inexpressible(const spec::ModelSpec& spec) {
  Reasons reasons;
  common_reasons(spec, spec::NormWeight::kZeroCentered, reasons);
  const FirstLayers first = first_layers(spec);
  for (size_t i = 0; i < block_count(spec); ++i) {
    layer_reasons(spec, i, attention_at(spec, i).window ? *first.sliding : *first.full, reasons);
  }
  if (const spec::MoeSpec* moe = first_moe(spec)) {
    MoeForm form{.score = moe->router.score,
                 .expert_bias = moe->router.expert_bias,
                 .scale = true,
                 .shared = true,
                 .limits = true};
    reasons.add_if(moe->router.score == spec::RouterScore::kSqrtSoftplus,
                   "a router with sqrtsoftplus scores");
    if (moe->router.score == spec::RouterScore::kSoftmax) form.normalize = false;
    moe_reasons(spec, form, reasons);
  }
  if (spec.mtp) {
    reasons.add_if(!spec.mtp->own_head, "multi-token prediction without heads of its own");
    reasons.add_if(spec.mtp->hidden != spec::MtpHidden::kResidual,
                   "multi-token prediction from normed hidden states");
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
  for (size_t i = 0; i < block_count(spec); ++i) {
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
  for (size_t i = 0; i < block_count(spec); ++i) {
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

void write_moe(const spec::MoeSpec& moe, Json& json) {
  json["moe_num_experts"] = moe.num_experts;
  json["moe_top_k"] = moe.top_k;
  json["moe_intermediate_size"] = moe.intermediate_size;
  json["share_expert_dim"] = moe.shared->intermediate_size;
  json["moe_router_activation"] = enum_name(moe.router.score);
  json["moe_router_scaling_factor"] = moe.router.scale;
  json["use_moe_router_bias"] = moe.router.expert_bias;
  json["need_fp32_gate"] = true;
  json["norm_expert_weight"] = moe.router.normalize;
}

void write_mlp(const spec::ModelSpec& spec, Json& json) {
  std::vector<std::string> sparse;
  json["num_nextn_predict_layers"] = block_count(spec) - spec.layers.size();
  json["swiglu_limits"] = Json::array();
  json["swiglu_limits_shared"] = Json::array();
  for (size_t i = 0; i < block_count(spec); ++i) {
    const spec::MoeSpec* moe = spec::moe_of(spec::block_at(spec, static_cast<int64_t>(i)));
    if (moe != nullptr) sparse.push_back(std::to_string(i));
    const auto shared = moe != nullptr ? moe->shared->limit : mlp_at(spec, i)->limit;
    json["swiglu_limits"].push_back(moe != nullptr ? moe->limit.value_or(0.0) : 0.0);
    json["swiglu_limits_shared"].push_back(shared.value_or(0.0));
  }
  json["use_moe"] = !sparse.empty();
  json["moe_layers_enum"] = join(sparse, ",");
  if (const spec::MoeSpec* moe = first_moe(spec)) write_moe(*moe, json);
  if (first_mlp(spec) != nullptr && first_mlp(spec)->bias) json["mlp_bias"] = true;
}

Json write(const spec::ModelSpec& spec) {
  const FirstLayers first = first_layers(spec);
  Json json;
  json["vocab_size"] = spec.embedding.vocab_size;
  json["hidden_size"] = spec.hidden_size;
  const spec::DenseMlpSpec* mlp = first_mlp(spec);
  json["intermediate_size"] =
      mlp != nullptr ? mlp->intermediate_size : first_moe(spec)->shared->intermediate_size;
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

/// Stacks of experts below `moe`; single experts, as other tools write them, where a folder has
/// them. A dense layer's names are native.
std::vector<Rule> moe_rules() {
  const std::string native = "model.layers.{}.mlp.", disk = "model.layers.{}.";
  std::vector<Rule> rules = {
      MapRule{{native + "gate.weight"}, {disk + "moe.gate.weight"}},
      MapRule{{native + "gate.e_score_correction_bias"}, {disk + "moe.router_bias"}}};
  for (const std::string part : {"gate_proj.weight", "up_proj.weight", "down_proj.weight"}) {
    for (const char* where : {"moe.experts.{}.", "moe.{}."}) {
      rules.push_back(MapRule{{native + "experts.{}." + part},
                              {disk + where + part},
                              &kCopy,
                              /*alternative=*/true});
    }
    rules.push_back(MapRule{{native + "experts.{*}." + part}, {disk + "moe." + part}, &kStack});
    rules.push_back(MapRule{{native + "shared_expert." + part}, {disk + "share_expert." + part}});
  }
  return rules;
}

/// A next-token layer's norm and head.
std::vector<Rule> mtp_rules() {
  const std::string native = "model.layers.{}.shared_head.";
  const std::string disk = "model.layers.{}.transformer.shared_head.";
  return {MapRule{{native + "norm.weight"}, {disk + "norm.weight"}},
          MapRule{{native + "head.weight"}, {disk + "output.weight"}}};
}

std::vector<Rule> rules(const spec::ModelSpec&) {
  const char* quantised = "a quantised checkpoint";
  std::vector<Rule> rules = moe_rules();
  const std::vector<Rule> rest = {
      IgnoreRule{"*rotary_emb.inv_freq", "computed from the config"},
      IgnoreRule{"*.k_proj.k_scale", "scale of a quantised key cache"},
      IgnoreRule{"*.v_proj.v_scale", "scale of a quantised value cache"},
      RefuseRule{"*.weight_scale*", quantised},
      RefuseRule{"*.input_scale", quantised},
      RefuseRule{"*.weight_packed", quantised}};
  rules.insert(rules.end(), rest.begin(), rest.end());
  const std::vector<Rule> mtp = mtp_rules();
  rules.insert(rules.end(), mtp.begin(), mtp.end());
  return rules;
}

}  // namespace

const Family& step3p5_family() {
  static const Family kFamily{
      "step3p5", "Step3p5ForCausalLM",          step3p5::read, inexpressible, write,
      rules,     {.experts = true, .mtp = true}};
  return kFamily;
}

}  // namespace headway::io
