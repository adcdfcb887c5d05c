// Families `gemma4_text` and, read only, `gemma4` and `gemma4_unified`: their text part. Layers of
// two types with other head widths, shared keys and values, per-layer embeddings, experts beside
// the dense MLP. Not for: images and sound; tensor names (gemma4_rules.cpp). Source:
// transformers 5.23, models/gemma4. Test: tests/unit/io/gemma4_test.cpp, tests/golden/io.
#include "headway/io/hf/gemma4.h"

#include <cmath>

#include <fmt/format.h>

#include "headway/base/error.h"
#include "headway/base/logging.h"
#include "headway/io/hf/gemma_common.h"
#include "headway/io/hf/moe_family.h"
#include "headway/io/hf/plain_decoder.h"
#include "headway/io/hf/rope_config.h"
#include "headway/spec/kv_sharing.h"

namespace headway::io {
namespace {

using gemma::kFull;
using gemma::kSliding;

constexpr IntegerRange kHeads{1, config::kMaxHeads};
constexpr IntegerRange kHeadDims{1, config::kMaxHeadDim};
constexpr IntegerRange kWidths{1, config::kMaxWidth};

/// Key/value heads and head width of one layer.
struct Heads {
  int64_t key_value = 0;
  int64_t head_dim = 0;
  bool operator==(const Heads&) const = default;
};

/// What the config says besides the geometry of layers.
struct Keys {
  std::vector<std::string> types;
  bool key_is_value = false;
  int64_t shared_layers = 0;
  bool bidirectional = false;
  std::optional<int64_t> window;
  spec::NormSpec norm;
};

/// `per_layer_config`: layer numbers to the heads that differ there; all layers of a type agree.
void read_per_layer(ConfigReader& config, const Keys& keys, std::vector<Heads>& layers) {
  auto overrides = config.object("per_layer_config");
  if (!overrides) return;
  for (const auto& [key, value] : config.find("per_layer_config")->items()) {
    const auto is_digit = [](char c) { return c >= '0' && c <= '9'; };
    const bool is_number = !key.empty() && key.size() < 9 && std::ranges::all_of(key, is_digit);
    if (!is_number || std::stoul(key) >= layers.size()) {
      overrides->problem(key,
                         fmt::format("keys that are layer numbers in 0..{}", layers.size() - 1));
      continue;
    }
    auto layer = overrides->object(key);
    if (!layer) continue;
    Heads& heads = layers[std::stoul(key)];
    heads.head_dim = layer->integer("head_dim", kHeadDims, heads.head_dim);
    heads.key_value = layer->integer("num_key_value_heads", kHeads, heads.key_value);
    for (const auto& [name, ignored] : value.items()) {
      if (!layer->read_keys().contains(name))
        layer->problem(name, "head_dim | num_key_value_heads");
    }
  }
  for (size_t i = 0; i < layers.size(); ++i) {
    const auto first = std::ranges::find(keys.types, keys.types[i]) - keys.types.begin();
    if (layers[i] == layers[static_cast<size_t>(first)]) continue;
    config.problem_text(
        "per_layer_config",
        fmt::format("layer {} has other heads than layer {}, of the same type", i, first));
    return;
  }
}

std::vector<Heads> read_heads(ConfigReader& config, const Keys& keys) {
  constexpr int64_t kDefaultGlobalHeadDim = 512;
  Heads sliding;
  sliding.key_value = config.required_integer("num_key_value_heads", kHeads);
  sliding.head_dim = config.required_integer("head_dim", kHeadDims);
  const bool listed = config.has("per_layer_config");
  Heads full = sliding;
  const auto global_dim = config.optional_integer("global_head_dim", kHeadDims);
  const auto global_heads = config.optional_integer("num_global_key_value_heads", kHeads);
  if (!listed) {
    full.head_dim = global_dim.value_or(kDefaultGlobalHeadDim);
    // Without attention_k_eq_v the reference does not look at the global number.
    if (keys.key_is_value) full.key_value = global_heads.value_or(sliding.key_value);
  }
  std::vector<Heads> layers;
  for (const std::string& type : keys.types) layers.push_back(type == kFull ? full : sliding);
  read_per_layer(config, keys, layers);
  return layers;
}

std::map<std::string, spec::RopeSpec> read_ropes(ConfigReader& config, const Keys& keys,
                                                 int64_t max_positions) {
  std::map<std::string, spec::RopeSpec> ropes;
  ropes[kSliding].base = 1e4;
  ropes[kFull] = {.kind = spec::RopeKind::kProportional, .base = 1e6, .fraction = 0.25};
  auto types = config.object("rope_parameters");
  if (!types) return ropes;
  for (const std::string& type : {kFull, kSliding}) {
    RopeDefaults defaults;
    defaults.base = ropes[type].base;
    defaults.max_positions = static_cast<double>(max_positions);
    if (auto given = types->object(type)) {
      ropes[type] = read_rope(*given, defaults);
    } else if (std::ranges::find(keys.types, type) != keys.types.end()) {
      types->problem(type, "an object: rotary positions of this layer type");
    }
  }
  return ropes;
}

spec::MoeSpec read_moe(ConfigReader& config, const spec::ModelSpec& model, const Keys& keys) {
  spec::MoeSpec moe;
  moe.num_experts = config.required_integer("num_experts", {1, config::kMaxExperts});
  moe.top_k = config.required_integer("top_k_experts", {1, config::kMaxExperts});
  moe.intermediate_size = config.required_integer("moe_intermediate_size", kWidths);
  moe.activation = spec::Activation::kGeluTanh;
  moe.router.input_norm = keys.norm;
  moe.router.input_norm->weight = spec::NormWeight::kNone;
  moe.router.input_scale = 1.0 / std::sqrt(static_cast<double>(model.hidden_size));
  moe.router.input_weight = true;
  moe.router.expert_scale = true;
  return moe;
}

void read_per_layer_embedding(ConfigReader& config, const spec::NormSpec& norm,
                              spec::ModelSpec& model) {
  constexpr int64_t kDefaultSize = 256;
  if (!config.is_present("hidden_size_per_layer_input")) {
    log(LogLevel::kInfo,
        "[config.json] hidden_size_per_layer_input = absent: 256, as the reference");
  }
  const auto size =
      config.is_present("hidden_size_per_layer_input")
          ? config.optional_integer("hidden_size_per_layer_input", {0, config::kMaxWidth})
          : kDefaultSize;
  const int64_t rows = config.integer("vocab_size_per_layer_input", {1, config::kMaxVocab}, 262144);
  if (size.value_or(0) == 0) return;
  spec::PerLayerEmbeddingSpec& table = model.per_layer_embedding.emplace();
  table.vocab_size = rows;
  table.size = *size;
  table.scale = std::sqrt(static_cast<double>(*size));
  table.scale_rounding = spec::ScaleRounding::kWeightDtype;
  table.context_scale = 1.0 / std::sqrt(static_cast<double>(model.hidden_size));
  table.mix_scale = std::sqrt(0.5);
  table.norm = norm;
  table.padding_id = model.embedding.padding_id;
}

Keys read_keys(ConfigReader& config, size_t layers) {
  constexpr int64_t kPeriod = 6;
  Keys keys;
  keys.types = gemma::read_layer_types(config, layers, kPeriod);
  if (keys.types.back() != kFull) {
    log(LogLevel::kWarning, "[config.json] layer_types: the last layer is taken as full_attention");
    keys.types.back() = kFull;
  }
  keys.key_is_value = config.boolean("attention_k_eq_v", false);
  const auto most = static_cast<int64_t>(layers) - 1;
  keys.shared_layers = config.integer("num_kv_shared_layers", {0, most}, 0);
  keys.window = gemma::read_window(config, keys.types, std::nullopt);
  keys.norm = {.weight = spec::NormWeight::kFp32, .eps = config.number("rms_norm_eps", 1e-6, 0.0)};
  if (config.boolean("attention_bias", false)) config.problem("attention_bias", "false");
  const std::string sight = config.text("use_bidirectional_attention", "none");
  if (sight == "all") {
    throw UnsupportedError(
        "[config.json] use_bidirectional_attention = \"all\", allowed null | \"vision\": a model "
        "that generates");
  }
  keys.bidirectional = sight == "vision";
  if (sight != "vision" && config.has("use_bidirectional_attention")) {
    config.problem("use_bidirectional_attention", "null | \"vision\"");
  }
  return keys;
}

spec::AttentionSpec make_attention(const Keys& keys, const std::string& type, const Heads& heads,
                                   int64_t num_heads) {
  spec::AttentionSpec attention;
  attention.num_heads = num_heads;
  attention.num_kv_heads = heads.key_value;
  attention.head_dim = attention.v_head_dim = heads.head_dim;
  attention.scale = 1.0;
  attention.q_norm = attention.k_norm = attention.v_norm = keys.norm;
  attention.v_norm->weight = spec::NormWeight::kNone;
  attention.shared_key_value = keys.key_is_value && type == kFull;
  if (type == kSliding) attention.window = keys.window;
  attention.bidirectional_spans = keys.bidirectional && type == kSliding;
  return attention;
}

/// Readers take keys and values of the last layer of their type before the first reader.
void share_keys(ConfigReader& config, const Keys& keys, spec::ModelSpec& model) {
  const size_t first = model.layers.size() - static_cast<size_t>(keys.shared_layers);
  for (size_t i = first; i < model.layers.size(); ++i) {
    size_t source = first;
    while (source > 0 && keys.types[source - 1] != keys.types[i]) --source;
    if (source == 0) {
      config.problem_text("num_kv_shared_layers",
                          fmt::format("{}: layer {} is the first of type {}, so that it has no "
                                      "keys and values to read",
                                      keys.shared_layers, i, keys.types[i]));
      return;
    }
    spec::read_kv_of(model.layers[i], static_cast<int64_t>(source) - 1);
  }
}

void read_layers(ConfigReader& config, const Keys& keys, spec::ModelSpec& model) {
  const int64_t num_heads = config.required_integer("num_attention_heads", kHeads);
  const std::vector<Heads> heads = read_heads(config, keys);
  const auto ropes = read_ropes(config, keys, model.max_positions);
  spec::DenseMlpSpec mlp;
  mlp.intermediate_size = config.required_integer("intermediate_size", {1, config::kMaxWidth / 2});
  mlp.activation = gemma::read_hidden_activation(config);
  const int64_t width = mlp.intermediate_size;
  const bool widens = config.boolean("use_double_wide_mlp", false);
  std::optional<spec::MoeSpec> moe;
  if (config.boolean("enable_moe_block", false)) moe = read_moe(config, model, keys);
  for (const char* key : {"num_experts", "top_k_experts", "moe_intermediate_size"})
    config.mark(key);
  const size_t first_reader = keys.types.size() - static_cast<size_t>(keys.shared_layers);
  for (size_t i = 0; i < keys.types.size(); ++i) {
    spec::LayerSpec layer;
    layer.block = keys.types[i];
    spec::AttentionSpec attention = make_attention(keys, keys.types[i], heads[i], num_heads);
    attention.rope = ropes.at(keys.types[i]);
    if (num_heads % heads[i].key_value != 0) {
      config.problem_text("num_key_value_heads",
                          fmt::format("{} of layer {}, allowed a divisor of num_attention_heads "
                                      "(= {})",
                                      heads[i].key_value, i, num_heads));
    }
    layer.mixer = attention;
    mlp.intermediate_size = widens && i >= first_reader ? 2 * width : width;
    layer.mlp = mlp;
    layer.pre_mixer_norm = layer.post_mixer_norm = layer.post_mlp_norm = keys.norm;
    if (moe) {
      layer.mlp = spec::HybridMlpSpec{mlp, *moe, keys.norm, keys.norm, keys.norm, keys.norm};
    } else {
      layer.pre_mlp_norm = keys.norm;
    }
    if (model.per_layer_embedding) {
      layer.per_layer_input = spec::PerLayerInputSpec{spec::Activation::kGeluTanh, keys.norm};
    }
    layer.layer_scalar = true;
    model.layers.push_back(std::move(layer));
  }
  share_keys(config, keys, model);
}

spec::ModelSpec read_text(ConfigReader& config) {
  spec::ModelSpec model = gemma::read_frame(config, std::nullopt);
  const auto layers =
      static_cast<size_t>(config.required_integer("num_hidden_layers", {1, config::kMaxLayers}));
  const Keys keys = read_keys(config, layers);
  read_per_layer_embedding(config, keys.norm, model);
  config.throw_if_any();  // the layers below are built from these
  read_layers(config, keys, model);
  model.head.final_norm = keys.norm;
  return model;
}

spec::ModelSpec read_composite(ConfigReader& config) {
  auto text = config.object("text_config");
  if (!text) config.problem("text_config", "an object: the text model");
  config.throw_if_any();
  spec::ModelSpec model = read_text(*text);
  // Both levels say it; the outer one is what the reference ties by.
  if (config.has("tie_word_embeddings")) {
    model.head.tied = config.boolean("tie_word_embeddings", true);
  }
  return model;
}

void write_experts(const spec::ModelSpec& spec, Json& json) {
  const spec::MoeSpec* moe = first_moe(spec);
  json["enable_moe_block"] = moe != nullptr;
  json["num_experts"] = moe != nullptr ? Json(moe->num_experts) : Json(nullptr);
  json["top_k_experts"] = moe != nullptr ? Json(moe->top_k) : Json(nullptr);
  json["moe_intermediate_size"] = moe != nullptr ? Json(moe->intermediate_size) : Json(nullptr);
}

Json rope_json(const spec::AttentionSpec* attention, const spec::RopeSpec& otherwise) {
  const spec::RopeSpec rope =
      attention != nullptr && attention->rope ? *attention->rope : otherwise;
  Json json = rope_scaling_json(rope);
  if (json.is_null()) json = Json{{"rope_type", "default"}};
  json["rope_theta"] = rope.base;
  if (rope.kind == spec::RopeKind::kProportional && rope.factor == 1.0) json.erase("factor");
  return json;
}

Json write_text(const spec::ModelSpec& spec) {
  Json json = gemma::write_frame(spec);
  const gemma::FirstOfType first = gemma::first_of_type(spec);
  const spec::AttentionSpec& sliding = first.any();
  const spec::AttentionSpec& full = first.full != nullptr ? *first.full : sliding;
  const spec::DenseMlpSpec* mlp = spec::dense_of(spec.layers.front());
  const spec::DenseMlpSpec* last = spec::dense_of(spec.layers.back());
  const int64_t width = mlp != nullptr ? mlp->intermediate_size : 1;
  json["intermediate_size"] = width;
  json["use_double_wide_mlp"] = last != nullptr && last->intermediate_size == 2 * width;
  json["num_attention_heads"] = sliding.num_heads;
  json["num_key_value_heads"] = sliding.num_kv_heads;
  json["num_global_key_value_heads"] =
      full.num_kv_heads != sliding.num_kv_heads ? Json(full.num_kv_heads) : Json(nullptr);
  json["head_dim"] = sliding.head_dim;
  json["global_head_dim"] = full.head_dim;
  json["attention_k_eq_v"] = full.shared_key_value;
  json["attention_bias"] = false;
  json["sliding_window"] = first.sliding != nullptr ? *sliding.window : spec.max_positions;
  json["use_bidirectional_attention"] =
      sliding.bidirectional_spans ? Json("vision") : Json(nullptr);
  json["rope_parameters"] = {
      {kFull, rope_json(first.full, {.kind = spec::RopeKind::kProportional, .base = 1e6})},
      {kSliding, rope_json(first.sliding, {})}};
  int64_t readers = 0;
  json["layer_types"] = Json::array();
  for (const spec::AttentionSpec* attention : gemma::attentions_of(spec)) {
    json["layer_types"].push_back(attention->window ? kSliding : kFull);
    if (attention->kv_source) ++readers;
  }
  json["num_kv_shared_layers"] = readers;
  write_experts(spec, json);
  const auto& table = spec.per_layer_embedding;
  json["hidden_size_per_layer_input"] = table ? table->size : 0;
  json["vocab_size_per_layer_input"] = table ? table->vocab_size : spec.embedding.vocab_size;
  return json;
}

std::vector<std::string> inexpressible(const spec::ModelSpec& spec) {
  return gemma::losses(spec, read_text, write_text);
}

constexpr Family::Knows kKnows{.experts = true, .layer_extras = true};

std::vector<std::string> nothing(const spec::ModelSpec&) { return {}; }

}  // namespace

const Family& gemma4_text_family() {
  static const Family kFamily{"gemma4_text", "Gemma4ForCausalLM", read_text, inexpressible,
                              write_text,    gemma4::text_rules,  kKnows};
  return kFamily;
}

const Family& gemma4_unified_text_family() {
  static const Family kFamily{"gemma4_unified_text",
                              "Gemma4UnifiedForCausalLM",
                              read_text,
                              inexpressible,
                              write_text,
                              gemma4::text_rules,
                              kKnows};
  return kFamily;
}

const Family& gemma4_family() {
  static const Family kFamily{"gemma4", "Gemma4ForConditionalGeneration", read_composite, nothing,
                              nullptr,  gemma4::composite_rules,          kKnows};
  return kFamily;
}

const Family& gemma4_unified_family() {
  static const Family kFamily{"gemma4_unified",
                              "Gemma4UnifiedForConditionalGeneration",
                              read_composite,
                              nothing,
                              nullptr,
                              gemma4::composite_rules,
                              kKnows};
  return kFamily;
}

}  // namespace headway::io
