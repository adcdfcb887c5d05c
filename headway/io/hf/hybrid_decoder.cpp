// See hybrid_decoder.h. Not for: names of single families.
#include "headway/io/hf/hybrid_decoder.h"

#include <fmt/format.h>

#include "headway/io/hf/moe_family.h"
#include "headway/io/hf/rope_config.h"

namespace headway::io {
namespace {

constexpr int64_t kFullInterval = 4;
constexpr SingleRope kRope{.base = 10000.0, .fraction = 0.25, .partial = true};

bool same_heads(const spec::AttentionSpec& a, const spec::AttentionSpec& b) {
  return a.num_heads == b.num_heads && a.num_kv_heads == b.num_kv_heads &&
         a.head_dim == b.head_dim && a.qkv_bias == b.qkv_bias;
}

void full_reasons(size_t layer, const spec::AttentionSpec& attention,
                  const spec::AttentionSpec& first, Reasons& reasons) {
  const auto add_if = [&](bool condition, const char* feature) {
    if (condition) reasons.add_layer(layer, feature);
  };
  add_if(attention.gate.kind != spec::GateKind::kElementWise, "no element-wise output gate");
  add_if(!attention.q_norm || !attention.k_norm, "no q/k norm");
  add_if(!attention.rope, "attention without rotary positions");
  add_if(attention.window.has_value(), "a sliding window");
  add_if(attention.qkv_bias != attention.output_bias || attention.qkv_bias != attention.gate_bias,
         "a bias on only some of the projections");
  add_if(!same_heads(attention, first), "other heads than the first full layer");
  add_if(attention.rope && first.rope &&
             canonical_rope(*attention.rope) != canonical_rope(*first.rope),
         "other rotary positions than the first full layer");
}

void mtp_reasons(const spec::ModelSpec& spec, Reasons& reasons) {
  if (!spec.mtp) return;
  reasons.add_if(spec.mtp->depths() > 1, "more than one depth of multi-token prediction");
  reasons.add_if(spec.mtp->own_head, "a head of multi-token prediction of its own");
  reasons.add_if(spec.mtp->hidden != spec::MtpHidden::kNormed,
                 "multi-token prediction from residual streams");
  reasons.add_if(spec::attention_of(spec.mtp->layers.front()) == nullptr,
                 "multi-token prediction without attention");
}

}  // namespace

std::vector<bool> read_linear_layers(ConfigReader& config, size_t layers) {
  const int64_t interval =
      config.integer("full_attention_interval", {1, config::kMaxLayers}, kFullInterval);
  const auto types = config.layer_texts("layer_types", layers, 0);
  std::vector<bool> linear(layers);
  for (size_t i = 0; i < layers; ++i) {
    linear[i] =
        types ? (*types)[i] == kLinearAttention : (static_cast<int64_t>(i) + 1) % interval != 0;
    if (types && !linear[i] && (*types)[i] != kFullAttention) {
      config.problem_text(
          "layer_types",
          fmt::format("[{}] = \"{}\", allowed linear_attention | full_attention", i, (*types)[i]));
    }
  }
  return linear;
}

void delta_net_reasons(const spec::ModelSpec& spec, const DeltaForm& form, Reasons& reasons) {
  const auto* first = first_linear(spec);
  for (size_t i = 0; i < spec.layers.size(); ++i) {
    const auto* mixer = spec::delta_net_of(spec.layers[i]);
    if (mixer == nullptr) continue;
    const auto add_if = [&](bool condition, const char* feature) {
      if (condition) reasons.add_layer(i, feature);
    };
    add_if(*mixer != *first, "another Gated DeltaNet than the first");
    add_if(mixer->conv_bias, "a bias of the convolution");
    add_if(!form.low_rank && (mixer->decay_rank || mixer->gate_rank),
           "low-rank projections of decay or gate");
    add_if(mixer->conv_activation != spec::Activation::kSilu || mixer->gate != form.gate,
           "a Gated DeltaNet with another activation than the family's");
    add_if(mixer->norm.weight != spec::NormWeight::kPlain, "an output norm that is not plain");
    add_if(mixer->norm.eps != form.norm_eps, "an output norm with another eps than the family's");
  }
}

spec::GatedDeltaNetSpec read_delta_net(ConfigReader& config,
                                       const spec::GatedDeltaNetSpec& defaults) {
  const IntegerRange heads{1, config::kMaxHeads}, dims{1, config::kMaxHeadDim};
  const auto size = [&](std::string_view key, IntegerRange range, int64_t otherwise) {
    return otherwise > 0 ? config.integer(key, range, otherwise)
                         : config.required_integer(key, range);
  };
  spec::GatedDeltaNetSpec mixer = defaults;
  mixer.num_key_heads = size("linear_num_key_heads", heads, defaults.num_key_heads);
  mixer.num_value_heads = size("linear_num_value_heads", heads, defaults.num_value_heads);
  mixer.key_head_dim = size("linear_key_head_dim", dims, defaults.key_head_dim);
  mixer.value_head_dim = size("linear_value_head_dim", dims, defaults.value_head_dim);
  mixer.conv_size = config.integer("linear_conv_kernel_dim", {1, config::kMaxConvSize}, 4);
  if (mixer.num_value_heads % mixer.num_key_heads != 0) {
    config.problem("linear_num_value_heads",
                   fmt::format("a multiple of linear_num_key_heads (= {})", mixer.num_key_heads));
  }
  return mixer;
}

void write_delta_net(const spec::GatedDeltaNetSpec& mixer, Json& json) {
  json["linear_num_key_heads"] = mixer.num_key_heads;
  json["linear_num_value_heads"] = mixer.num_value_heads;
  json["linear_key_head_dim"] = mixer.key_head_dim;
  json["linear_value_head_dim"] = mixer.value_head_dim;
  json["linear_conv_kernel_dim"] = mixer.conv_size;
}

const spec::GatedDeltaNetSpec* first_linear(const spec::ModelSpec& spec) {
  for (const spec::LayerSpec& layer : spec.layers) {
    if (const auto* mixer = spec::delta_net_of(layer)) return mixer;
  }
  return nullptr;
}

Json layer_types(const spec::ModelSpec& spec) {
  Json types = Json::array();
  for (const spec::LayerSpec& layer : spec.layers) {
    types.push_back(spec::delta_net_of(layer) == nullptr ? kFullAttention : kLinearAttention);
  }
  return types;
}

spec::ModelSpec read_hybrid_decoder(ConfigReader& config, size_t mtp_layers, bool has_dense_mlp) {
  spec::ModelSpec model = read_plain_decoder(config, {.max_positions = 32768,
                                                      .needs_kv_heads = true,
                                                      .needs_head_dim = true,
                                                      .has_dense_mlp = has_dense_mlp,
                                                      .rope = kRope});
  const bool bias = config.boolean("attention_bias", false);
  const spec::NormSpec plain = *model.head.final_norm;
  spec::NormSpec centred = plain;
  centred.weight = spec::NormWeight::kZeroCentered;
  model.head.final_norm = centred;
  auto linear = read_linear_layers(config, model.layers.size());
  linear.resize(linear.size() + mtp_layers, false);
  model.layers.resize(linear.size(), model.layers.front());
  const spec::GatedDeltaNetSpec mixer = read_delta_net(config, {.norm = plain});
  for (size_t i = 0; i < model.layers.size(); ++i) {
    spec::LayerSpec& layer = model.layers[i];
    layer.pre_mixer_norm = layer.pre_mlp_norm = centred;
    if (linear[i]) {
      layer.block = kLinearAttention;
      layer.mixer = mixer;
      continue;
    }
    auto& attention = std::get<spec::AttentionSpec>(layer.mixer);
    attention.q_norm = attention.k_norm = centred;
    attention.gate.kind = spec::GateKind::kElementWise;
    attention.qkv_bias = attention.gate_bias = attention.output_bias = bias;
  }
  return model;
}

void hybrid_reasons(const spec::ModelSpec& spec, Reasons& reasons) {
  spec::ModelSpec without_bias = spec;  // the gate's is this family's to hold
  const auto drop = [](std::vector<spec::LayerSpec>& layers) {
    for (spec::LayerSpec& layer : layers) {
      auto* attention = std::get_if<spec::AttentionSpec>(&layer.mixer);
      if (attention != nullptr) attention->gate_bias = false;
    }
  };
  drop(without_bias.layers);
  if (without_bias.mtp) drop(without_bias.mtp->layers);
  common_reasons(without_bias, spec::NormWeight::kZeroCentered, reasons);
  const auto* full = first_attention(spec);
  const auto* linear = first_linear(spec);
  reasons.add_if(full == nullptr, "no full layer (its keys of the config would be made up)");
  reasons.add_if(linear == nullptr, "no Gated DeltaNet layer");
  if (linear != nullptr && linear->negative_eigenvalues) reasons.add("beta up to 2");
  delta_net_reasons(spec, {.norm_eps = spec.head.final_norm ? spec.head.final_norm->eps : 0.0},
                    reasons);
  const spec::DenseMlpSpec first_mlp = dense_or_expert(spec);
  mtp_reasons(spec, reasons);
  for (size_t i = 0; i < block_count(spec); ++i) {
    const spec::LayerSpec& layer = spec::block_at(spec, static_cast<int64_t>(i));
    const auto* attention = spec::attention_of(layer);
    if (attention != nullptr && full != nullptr) full_reasons(i, *attention, *full, reasons);
    const auto* mlp = std::get_if<spec::DenseMlpSpec>(&layer.mlp);
    if (mlp == nullptr) continue;
    if (*mlp != first_mlp) reasons.add_layer(i, "another MLP than the first dense one");
    if (mlp->bias || mlp->limit) reasons.add_layer(i, "a bias or a limit in the MLP");
  }
}

Json write_hybrid_decoder(const spec::ModelSpec& spec) {
  const spec::AttentionSpec& attention = *first_attention(spec);
  Json json = write_plain_decoder(spec);
  json["attention_bias"] = attention.qkv_bias;
  Json rope = rope_scaling_json(*attention.rope);
  if (rope.is_null()) rope = {{"rope_type", "default"}};
  rope["rope_theta"] = attention.rope->base;
  rope["partial_rotary_factor"] = attention.rope->fraction;
  json["rope_parameters"] = rope;
  json.erase("rope_theta");
  json.erase("rope_scaling");
  write_delta_net(*first_linear(spec), json);
  json["layer_types"] = layer_types(spec);
  return json;
}

std::vector<Rule> hybrid_rules(const spec::ModelSpec& spec) {
  std::vector<Rule> rules{IgnoreRule{"*rotary_emb.inv_freq", "computed from the config"}};
  for (const Rule& rule : fused_expert_rules("model.layers.{}.mlp.experts")) rules.push_back(rule);
  const std::string attention = "model.layers.{}.self_attn.";
  const std::string linear = "model.layers.{}.linear_attn.";
  if (const auto* full = first_attention(spec)) {
    for (const std::string ending : {"weight", "bias"}) {
      rules.push_back(MapRule{{attention + "q_proj." + ending, attention + "g_proj." + ending},
                              {attention + "q_proj." + ending},
                              &grouped_rows(full->num_heads)});
    }
  }
  rules.push_back(
      MapRule{{linear + "q_conv1d.weight", linear + "k_conv1d.weight", linear + "v_conv1d.weight"},
              {linear + "conv1d.weight"},
              &kConcatRows});
  return rules;
}

}  // namespace headway::io
