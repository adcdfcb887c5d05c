// Family `gpt_oss`: sinks, windows on every second layer, yarn, biases everywhere, and experts
// whose gate is clamped before a quick-gelu. Not for: its MXFP4 tensors (io/quantization.h).
#include <fmt/format.h>

#include "headway/io/hf/moe_family.h"
#include "headway/io/hf/plain_decoder.h"

namespace headway::io {
namespace {

constexpr const char* kFull = "full_attention";
constexpr const char* kSliding = "sliding_attention";
constexpr double kAlpha = 1.702;  // of quick_gelu

/// Without a word about positions the reference stretches them.
spec::RopeSpec stretched(double base) {
  spec::RopeSpec rope;
  rope.kind = spec::RopeKind::kYarn;
  rope.base = base;
  rope.factor = 32.0;
  rope.original_max_positions = 4096.0;
  rope.truncate = false;
  return rope;
}

bool says_rope(ConfigReader& config) {
  for (const char* key : {"rope_parameters", "rope_scaling"}) {
    const Json* value = config.find(key);
    if (value != nullptr && !value->empty()) return true;
  }
  return false;
}

std::vector<bool> read_sliding(ConfigReader& config, size_t layers) {
  const auto types = config.layer_texts("layer_types", layers, 0);
  std::vector<bool> sliding(layers);
  for (size_t i = 0; i < layers; ++i) {
    sliding[i] = types ? (*types)[i] == kSliding : i % 2 == 0;
    if (types && !sliding[i] && (*types)[i] != kFull) {
      config.problem_text("layer_types", fmt::format("[{}] = \"{}\", allowed {} | {}", i,
                                                     (*types)[i], kFull, kSliding));
    }
  }
  return sliding;
}

spec::MoeSpec read_moe(ConfigReader& config, const spec::DenseMlpSpec& width) {
  spec::MoeSpec moe;
  const IntegerRange range{1, config::kMaxExperts};
  const auto name = config.optional_integer("num_local_experts", range);
  const auto other = config.optional_integer("num_experts", range);
  if (name && other && *name != *other) {
    config.problem("num_experts", fmt::format("the value of num_local_experts (= {})", *name));
  }
  moe.num_experts = name || other ? name.value_or(other.value_or(1))
                                  : config.required_integer("num_local_experts", range);
  moe.top_k = config.integer("num_experts_per_tok", range, 4);
  moe.intermediate_size = width.intermediate_size;
  moe.activation = spec::Activation::kQuickGelu;
  moe.bias = moe.router.bias = true;
  moe.limit = config.number("swiglu_limit", 7.0);
  moe.limit_input = true;
  moe.linear_offset = 1.0;
  if (config.number("swiglu_alpha", kAlpha) != kAlpha) config.problem("swiglu_alpha", "1.702");
  return moe;
}

spec::ModelSpec read(ConfigReader& config) {
  const bool has_rope = says_rope(config);
  spec::ModelSpec model = read_plain_decoder(config, {.max_positions = 131072,
                                                      .needs_kv_heads = true,
                                                      .needs_head_dim = true,
                                                      .rope = {.base = 150000.0}});
  const bool bias = config.boolean("attention_bias", true);
  const bool is_absent = !config.is_present("sliding_window");
  auto window = config.optional_integer("sliding_window", {1, config::kMaxTokens});
  if (is_absent) window = 128;
  const auto sliding = read_sliding(config, model.layers.size());
  const spec::MoeSpec moe = read_moe(config, std::get<spec::DenseMlpSpec>(model.layers[0].mlp));
  const spec::NormSpec norm{.weight = spec::NormWeight::kFp32,
                            .eps = config.number("rms_norm_eps", 1e-5, 0.0)};
  model.head.final_norm = norm;
  for_each_attention(model, [&](size_t i, spec::AttentionSpec& attention) {
    model.layers[i].pre_mixer_norm = model.layers[i].pre_mlp_norm = norm;
    model.layers[i].mlp = moe;
    attention.sinks = spec::SinkKind::kLearnable;
    attention.qkv_bias = attention.output_bias = bias;
    if (!has_rope) attention.rope = stretched(attention.rope->base);
    if (!sliding[i]) return;
    if (!window)
      config.problem("sliding_window", "an integer >= 1 (layer_types has sliding layers)");
    attention.window = window;
    model.layers[i].block = kSliding;
  });
  return model;
}

std::vector<std::string> inexpressible(const spec::ModelSpec& spec) {
  Reasons reasons;
  spec::ModelSpec bare = spec;  // what every plain decoder lacks and this one has
  for_each_attention(bare, [&](size_t i, spec::AttentionSpec& attention) {
    if (attention.sinks != spec::SinkKind::kLearnable) reasons.add_layer(i, "no learnable sinks");
    attention.sinks = spec::SinkKind::kNone;
  });
  plain_reasons(bare, {.norm = spec::NormWeight::kFp32, .has_experts = true}, reasons);
  moe_reasons(spec, {.normalize = true, .biases = true, .clamped_input = true}, reasons);
  const auto window = common_window(spec);
  const spec::MoeSpec* first = first_moe(spec);
  for (size_t i = 0; i < spec.layers.size(); ++i) {
    const auto& attention = std::get<spec::AttentionSpec>(spec.layers[i].mixer);
    const spec::MoeSpec* moe = spec::moe_of(spec.layers[i]);
    const auto add_if = [&](bool condition, const std::string& feature) {
      if (condition) reasons.add_layer(i, feature);
    };
    add_if(moe == nullptr, "a dense MLP");
    add_if(moe != nullptr && moe->limit != first->limit, "another limit than the first experts");
    add_if(attention.window && !window, "windows of different lengths");
    add_if(attention.qkv_bias != attention.output_bias,
           "a bias on only one of qkv and output projection");
  }
  return reasons.lines();
}

Json write(const spec::ModelSpec& spec) {
  const spec::MoeSpec& moe = *first_moe(spec);
  spec::ModelSpec named = spec;  // hidden_act says nothing of the experts' activation
  for (spec::LayerSpec& layer : named.layers) {
    std::get<spec::MoeSpec>(layer.mlp).activation = spec::Activation::kSilu;
  }
  Json json = write_plain_decoder(named);
  const auto& attention = std::get<spec::AttentionSpec>(spec.layers.front().mixer);
  if (attention.rope->kind == spec::RopeKind::kDefault) {
    // No scaling at all would mean yarn.
    json.erase("rope_scaling");
    json["rope_parameters"] = {{"rope_type", "default"}, {"rope_theta", attention.rope->base}};
  }
  json["attention_bias"] = attention.qkv_bias;
  json["sliding_window"] = common_window(spec).value_or(spec.max_positions);
  json["layer_types"] = Json::array();
  for (const spec::LayerSpec& layer : spec.layers) {
    const bool is_sliding = std::get<spec::AttentionSpec>(layer.mixer).window.has_value();
    json["layer_types"].push_back(is_sliding ? kSliding : kFull);
  }
  json["num_local_experts"] = moe.num_experts;
  json["num_experts_per_tok"] = moe.top_k;
  json["swiglu_limit"] = *moe.limit;
  json["swiglu_alpha"] = kAlpha;
  return json;
}

std::vector<Rule> rules(const spec::ModelSpec&) {
  const std::string native = "model.layers.{}.mlp.", experts = native + "experts.";
  return {MapRule{{native + "gate.weight"}, {native + "router.weight"}},
          MapRule{{native + "gate.bias"}, {native + "router.bias"}},
          MapRule{{experts + "{*}.gate_proj.weight", experts + "{*}.up_proj.weight"},
                  {experts + "gate_up_proj"},
                  &kStackInterleaved},
          MapRule{{experts + "{*}.gate_proj.bias", experts + "{*}.up_proj.bias"},
                  {experts + "gate_up_proj_bias"},
                  &kStackInterleaved},
          MapRule{{experts + "{*}.down_proj.weight"}, {experts + "down_proj"}, &kStackTransposed},
          MapRule{{experts + "{*}.down_proj.bias"}, {experts + "down_proj_bias"}, &kStack},
          IgnoreRule{"*rotary_emb.inv_freq", "computed from the config"}};
}

}  // namespace

const Family& gpt_oss_family() {
  static const Family kFamily{"gpt_oss", "GptOssForCausalLM", read, inexpressible, write,
                              rules,     {.experts = true}};
  return kFamily;
}

}  // namespace headway::io
