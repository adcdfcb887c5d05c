// Family `gemma3_text`: sliding and full layers with rotary bases of their own, zero-centred norms
// before and after mixer and MLP. Not for: gemma4, whose layers have more parts.
#include <cmath>

#include "headway/base/error.h"
#include "headway/io/hf/gemma_common.h"
#include "headway/io/hf/plain_decoder.h"
#include "headway/io/hf/rope_config.h"

namespace headway::io {
namespace {

using gemma::kFull;
using gemma::kSliding;

constexpr double kGlobalBase = 1e6;
constexpr double kLocalBase = 1e4;

/// The rotary positions of one layer type: rope_parameters has an object a type; published configs
/// have rope_theta and rope_scaling for full layers and rope_local_base_freq for sliding ones.
spec::RopeSpec read_type(ConfigReader& config, const std::string& type, double base,
                         int64_t max_positions) {
  RopeDefaults defaults;
  defaults.base = base;
  defaults.max_positions = static_cast<double>(max_positions);
  spec::RopeSpec rope;
  rope.base = base;
  bool is_given = false;
  if (auto types = config.object("rope_parameters")) {
    if (auto given = types->object(type)) {
      rope = read_rope(*given, defaults);
      is_given = true;
    }
  }
  if (type == kFull && config.has("rope_scaling")) {
    auto scaling = config.object("rope_scaling");
    defaults.base = rope.base;
    const spec::RopeSpec other = read_rope(*scaling, defaults);
    if (is_given && other != rope) {
      config.problem_text("rope_scaling", "differs from rope_parameters; keep one of the two");
    }
    rope = other;
  }
  rope.truncate = spec::RopeSpec{}.truncate;  // the reference does not read it under a layer type
  if (rope.fraction != 1.0) {
    config.problem_text("rope_parameters", "partial_rotary_factor is not part of this family");
  }
  return rope;
}

spec::AttentionSpec read_attention(ConfigReader& config, const spec::NormSpec& norm) {
  spec::AttentionSpec attention;
  const IntegerRange heads{1, config::kMaxHeads};
  attention.num_heads = config.integer("num_attention_heads", heads, 8);
  attention.num_kv_heads = config.integer("num_key_value_heads", heads, 4);
  attention.head_dim = config.integer("head_dim", {1, config::kMaxHeadDim}, 256);
  attention.v_head_dim = attention.head_dim;
  const double width = config.number("query_pre_attn_scalar", 256.0);
  attention.scale = width == static_cast<double>(attention.head_dim)
                        ? default_scale(attention.head_dim)
                        : 1.0 / std::sqrt(width);
  attention.q_norm = attention.k_norm = norm;
  attention.qkv_bias = attention.output_bias = config.boolean("attention_bias", false);
  if (attention.num_heads % attention.num_kv_heads != 0) {
    config.problem("num_key_value_heads", "a divisor of num_attention_heads");
  }
  return attention;
}

spec::ModelSpec read(ConfigReader& config) {
  constexpr int64_t kDefaultVocab = 262208, kDefaultWindow = 4096, kDefaultPeriod = 6;
  spec::ModelSpec model = gemma::read_frame(config, kDefaultVocab);
  const auto layers =
      static_cast<size_t>(config.required_integer("num_hidden_layers", {1, config::kMaxLayers}));
  const int64_t period =
      config.integer("sliding_window_pattern", {1, config::kMaxLayers}, kDefaultPeriod);
  const auto types = gemma::read_layer_types(config, layers, period);
  const auto window = gemma::read_window(config, types, kDefaultWindow);
  const spec::NormSpec norm{.weight = spec::NormWeight::kZeroCentered,
                            .eps = config.number("rms_norm_eps", 1e-6, 0.0)};
  if (config.boolean("use_bidirectional_attention", false)) {
    throw UnsupportedError(
        "[config.json] use_bidirectional_attention = true, allowed false: a model that generates");
  }
  for (const char* inert : {"_sliding_window_pattern", "attn_logit_softcapping"})
    config.mark(inert);
  spec::AttentionSpec attention = read_attention(config, norm);
  const std::map<std::string, spec::RopeSpec> ropes = {
      {kFull,
       read_type(config, kFull, config.number("rope_theta", kGlobalBase), model.max_positions)},
      {kSliding, read_type(config, kSliding, config.number("rope_local_base_freq", kLocalBase),
                           model.max_positions)}};
  spec::DenseMlpSpec mlp;
  mlp.intermediate_size = config.required_integer("intermediate_size", {1, config::kMaxWidth});
  mlp.activation = gemma::read_hidden_activation(config);
  for (const std::string& type : types) {
    spec::LayerSpec layer;
    layer.block = type;
    attention.window = type == kSliding ? window : std::nullopt;
    attention.rope = type == kSliding ? ropes.at(kSliding) : ropes.at(kFull);
    layer.mixer = attention;
    layer.mlp = mlp;
    layer.pre_mixer_norm = layer.post_mixer_norm = norm;
    layer.pre_mlp_norm = layer.post_mlp_norm = norm;
    model.layers.push_back(std::move(layer));
  }
  model.head.final_norm = norm;
  return model;
}

Json write(const spec::ModelSpec& spec) {
  Json json = gemma::write_frame(spec);
  const gemma::FirstOfType first = gemma::first_of_type(spec);
  const spec::AttentionSpec& attention = first.any();
  const spec::DenseMlpSpec* mlp = spec::dense_of(spec.layers.front());
  json["intermediate_size"] = mlp == nullptr ? 1 : mlp->intermediate_size;
  json["num_attention_heads"] = attention.num_heads;
  json["num_key_value_heads"] = attention.num_kv_heads;
  json["head_dim"] = attention.head_dim;
  // The reference wants an integer here; another scale is told as a loss.
  json["query_pre_attn_scalar"] =
      std::max<int64_t>(1, std::llround(1.0 / (attention.scale * attention.scale)));
  json["attention_bias"] = attention.qkv_bias;
  json["use_bidirectional_attention"] = false;
  json["sliding_window"] = first.sliding != nullptr ? *first.sliding->window : spec.max_positions;
  json["layer_types"] = Json::array();
  for (const auto* layer : gemma::attentions_of(spec)) {
    json["layer_types"].push_back(layer->window ? kSliding : kFull);
  }
  const auto base_of = [](const spec::AttentionSpec* layer, double otherwise) {
    return layer != nullptr && layer->rope ? layer->rope->base : otherwise;
  };
  json["rope_theta"] = base_of(first.full, kGlobalBase);
  json["rope_local_base_freq"] = base_of(first.sliding, kLocalBase);
  json["rope_scaling"] = first.full != nullptr && first.full->rope
                             ? rope_scaling_json(*first.full->rope)
                             : Json(nullptr);
  return json;
}

std::vector<std::string> inexpressible(const spec::ModelSpec& spec) {
  return gemma::losses(spec, read, write);
}

std::vector<Rule> rules(const spec::ModelSpec&) {
  return {IgnoreRule{"*rotary_emb.*inv_freq", "computed from the config"}};
}

}  // namespace

const Family& gemma3_text_family() {
  static const Family kFamily{"gemma3_text", "Gemma3ForCausalLM", read, inexpressible, write,
                              rules};
  return kFamily;
}

}  // namespace headway::io
