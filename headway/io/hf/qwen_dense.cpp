// See qwen_dense.h. Not for: keys of one of the families alone.
#include "headway/io/hf/qwen_dense.h"

#include <fmt/format.h>

namespace headway::io {
namespace {

constexpr const char* kFull = "full_attention";
constexpr const char* kSliding = "sliding_attention";

/// One flag per layer: whether it sees a window.
std::vector<bool> read_sliding(ConfigReader& config, size_t layers, bool has_window) {
  const int64_t first = config.integer("max_window_layers", {0, config::kMaxLayers}, 28);
  const auto types = config.layer_texts("layer_types", layers, 0);
  std::vector<bool> sliding(layers);
  for (size_t i = 0; i < layers; ++i) {
    if (!types) {
      sliding[i] = has_window && static_cast<int64_t>(i) >= first;
      continue;
    }
    sliding[i] = (*types)[i] == kSliding;
    if (!sliding[i] && (*types)[i] != kFull) {
      config.problem_text(
          "layer_types",
          fmt::format("[{}] = \"{}\", allowed full_attention | sliding_attention", i, (*types)[i]));
    }
    if (sliding[i] && !has_window) {
      config.problem_text("layer_types",
                          fmt::format("[{}] = \"sliding_attention\", but there is no window: needs "
                                      "use_sliding_window true and sliding_window",
                                      i));
    }
  }
  return sliding;
}

}  // namespace

spec::ModelSpec read_qwen_dense(ConfigReader& config, const QwenTraits& traits) {
  constexpr int64_t kDefaultWindow = 4096;
  spec::ModelSpec model = read_plain_decoder(
      config,
      {.max_positions = 32768, .needs_kv_heads = true, .needs_head_dim = traits.needs_head_dim});
  const bool bias = traits.has_bias_key && config.boolean("attention_bias", false);
  const bool uses_window = config.boolean("use_sliding_window", false);
  const bool is_absent = !config.is_present("sliding_window");
  auto window = config.optional_integer("sliding_window", {1, config::kMaxTokens});
  if (is_absent) window = kDefaultWindow;
  if (!uses_window) window.reset();
  const auto sliding = read_sliding(config, model.layers.size(), window.has_value());
  const auto norm = model.head.final_norm;
  for_each_attention(model, [&](size_t i, spec::AttentionSpec& attention) {
    if (traits.has_qk_norm) attention.q_norm = attention.k_norm = norm;
    attention.qkv_bias = bias || !traits.has_bias_key;
    attention.output_bias = bias;
    if (!sliding[i]) return;
    attention.window = window;
    model.layers[i].block = kSliding;
  });
  return model;
}

std::vector<std::string> qwen_dense_reasons(const spec::ModelSpec& spec, const QwenTraits& traits) {
  Reasons reasons;
  plain_reasons(spec, traits.has_qk_norm, reasons);
  const auto window = common_window(spec);
  for (size_t i = 0; i < spec.layers.size(); ++i) {
    const auto& attention = std::get<spec::AttentionSpec>(spec.layers[i].mixer);
    const auto add_if = [&](bool condition, const std::string& feature) {
      if (condition) reasons.add_layer(i, feature);
    };
    add_if(attention.window && !window, "windows of different lengths");
    add_if(traits.has_bias_key && attention.qkv_bias != attention.output_bias,
           "a bias on only one of qkv and output projection");
    add_if(!traits.has_bias_key && !attention.qkv_bias, "no biases of q, k and v");
    add_if(!traits.has_bias_key && attention.output_bias, "a bias of the output projection");
    add_if(std::get<spec::DenseMlpSpec>(spec.layers[i].mlp).bias, "MLP biases");
  }
  return reasons.lines();
}

Json write_qwen_dense(const spec::ModelSpec& spec, const QwenTraits& traits) {
  Json json = write_plain_decoder(spec);
  const auto window = common_window(spec);
  if (traits.has_bias_key) {
    json["attention_bias"] = std::get<spec::AttentionSpec>(spec.layers.front().mixer).qkv_bias;
  }
  json["use_sliding_window"] = window.has_value();
  json["sliding_window"] = window ? Json(*window) : Json(nullptr);
  json["max_window_layers"] = spec.layers.size();
  json["layer_types"] = Json::array();
  for (const spec::LayerSpec& layer : spec.layers) {
    const bool is_sliding = std::get<spec::AttentionSpec>(layer.mixer).window.has_value();
    json["layer_types"].push_back(is_sliding ? kSliding : kFull);
  }
  return json;
}

}  // namespace headway::io
