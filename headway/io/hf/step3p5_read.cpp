// Family `step3p5`, config.json -> ModelSpec: layers of two types with their own heads, rotary
// lists per layer, zero-centred norms, head-wise gates. Reads the published spelling and the one
// that transformers writes. Not for: writing (step3p5.cpp).
#include <algorithm>
#include <cmath>
#include <set>

#include <fmt/format.h>

#include "headway/base/error.h"
#include "headway/base/text_util.h"
#include "headway/io/hf/mtp_family.h"
#include "headway/io/hf/plain_decoder.h"
#include "headway/io/hf/rope_config.h"
#include "headway/io/hf/step3p5.h"

namespace headway::io::step3p5 {
namespace {

struct Heads {
  int64_t query = 0;
  int64_t key_value = 0;
  int64_t head_dim = 0;
};

constexpr IntegerRange kHeadRange{1, config::kMaxHeads};
constexpr IntegerRange kHeadDimRange{1, config::kMaxHeadDim};

/// A key with two names: the first given counts, and both must agree.
int64_t either_integer(ConfigReader& config, const char* name, const char* other,
                       IntegerRange range) {
  const auto first = config.optional_integer(name, range);
  const auto second = config.optional_integer(other, range);
  if (first && second && *first != *second) {
    config.problem(other, fmt::format("the value of {} (= {})", name, *first));
  }
  if (first) return *first;
  return second ? *second : config.required_integer(name, range);
}

/// Types of the next-token layers where layer_types leaves them out: mtp_layer_types, as
/// transformers writes them.
void add_mtp_types(ConfigReader& config, Frame& frame) {
  if (frame.types.size() == frame.total()) return;
  const auto further = config.layer_texts("mtp_layer_types", frame.extra, 0);
  if (further) {
    frame.types.insert(frame.types.end(), further->begin(), further->end());
  } else {
    config.problem("mtp_layer_types",
                   fmt::format("a list of {} (one per next-token layer)", frame.extra));
  }
  frame.types.resize(frame.total(), kSliding);
}

Frame read_frame(ConfigReader& config) {
  Frame frame;
  frame.layers =
      static_cast<size_t>(config.required_integer("num_hidden_layers", {1, config::kMaxLayers}));
  frame.extra = static_cast<size_t>(
      config.integer("num_nextn_predict_layers", {0, config::kMaxMtpDepths}, 0));
  if (auto types = config.layer_texts("layer_types", frame.layers, frame.extra)) {
    frame.types = std::move(*types);
    frame.has_types = true;
    add_mtp_types(config, frame);
    for (size_t i = 0; i < frame.types.size(); ++i) {
      if (frame.types[i] == kFull || frame.types[i] == kSliding) continue;
      config.problem_text("layer_types", fmt::format("[{}] = \"{}\", allowed {} | {}", i,
                                                     shorten(frame.types[i]), kFull, kSliding));
    }
    return frame;
  }
  // The published code makes even layers sliding when the list is absent.
  for (size_t i = 0; i < frame.total(); ++i) {
    frame.types.emplace_back(i % 2 == 0 ? kSliding : kFull);
  }
  return frame;
}

Heads read_global_heads(ConfigReader& config, int64_t hidden) {
  Heads heads;
  heads.query = config.required_integer("num_attention_heads", kHeadRange);
  heads.key_value =
      either_integer(config, "num_attention_groups", "num_key_value_heads", kHeadRange);
  if (config.is_present("head_dim") && !config.has("head_dim")) {
    config.mark("head_dim");
    heads.head_dim = std::max<int64_t>(hidden / heads.query, 1);
  } else {
    heads.head_dim = config.required_integer("head_dim", kHeadDimRange);
  }
  return heads;
}

void override_heads(ConfigReader& config, Heads& heads) {
  heads.query = config.integer("num_attention_heads", kHeadRange, heads.query);
  heads.key_value = config.integer("num_attention_groups", kHeadRange, heads.key_value);
  heads.key_value = config.integer("num_key_value_heads", kHeadRange, heads.key_value);
  heads.head_dim = config.integer("head_dim", kHeadDimRange, heads.head_dim);
}

/// `per_layer_config`: layer numbers, zero-padded in long models, to the values that differ there.
void read_per_layer(ConfigReader& config, std::vector<Heads>& layers) {
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
    override_heads(*layer, layers[std::stoul(key)]);
    for (const auto& [name, ignored] : value.items()) {
      if (!layer->read_keys().contains(name)) {
        layer->problem(name, "num_attention_heads | num_key_value_heads | head_dim");
      }
    }
  }
}

std::vector<Heads> read_heads(ConfigReader& config, int64_t hidden, const Frame& frame) {
  const Heads global = read_global_heads(config, hidden);
  std::vector<Heads> layers(frame.total(), global);
  Heads other = global;
  std::string type = kSliding;
  if (auto setting = config.object("attention_other_setting")) {
    type = setting->text("attention_type", kSliding);
    override_heads(*setting, other);
  }
  const auto sliding = config.optional_integer("num_sliding_attention_heads", kHeadRange);
  for (size_t i = 0; i < frame.total(); ++i) {
    if (frame.types[i] == type) layers[i] = other;
    if (sliding && frame.types[i] == kSliding) layers[i].query = *sliding;
  }
  read_per_layer(config, layers);
  for (size_t i = 0; i < frame.total(); ++i) {
    if (layers[i].query % layers[i].key_value == 0) continue;
    config.problem_text("num_attention_heads",
                        fmt::format("{} of layer {}, allowed a multiple of its {} key/value heads",
                                    layers[i].query, i, layers[i].key_value));
  }
  return layers;
}

using Ropes = std::vector<spec::RopeSpec>;

/// ConfigReader::per_layer; a next-token layer that a list leaves out has the number of the last
/// layer of its type.
std::vector<double> read_per_type(ConfigReader& config, const char* key, const Frame& frame,
                                  double otherwise) {
  auto values = config.per_layer(key, frame.layers, frame.extra, otherwise);
  const Json* given = config.find(key);
  if (given == nullptr || !given->is_array() || given->size() == frame.total()) return values;
  for (size_t i = frame.layers; i < frame.total(); ++i) {
    for (size_t like = 0; like < frame.layers; ++like) {
      if (frame.types[like] == frame.types[i]) values[i] = values[like];
    }
  }
  return values;
}

/// rope_theta, partial_rotary_factors and rope_scaling with yarn_only_types.
Ropes read_published_ropes(ConfigReader& config, const Frame& frame, const RopeDefaults& defaults) {
  const auto bases = read_per_type(config, "rope_theta", frame, defaults.base);
  const auto fractions = read_per_type(config, "partial_rotary_factors", frame, defaults.fraction);
  std::optional<spec::RopeSpec> scaled;
  if (auto scaling = config.object("rope_scaling")) scaled = read_rope(*scaling, defaults);
  const auto only = config.texts("yarn_only_types").value_or(std::vector<std::string>{});
  Ropes ropes(frame.total());
  for (size_t i = 0; i < frame.total(); ++i) {
    // Without layer_types the published code scales every layer as if it were full.
    const std::string& type = frame.has_types ? frame.types[i] : kFull;
    const bool is_scaled = only.empty() || std::ranges::find(only, type) != only.end();
    if (scaled && is_scaled) ropes[i] = *scaled;
    ropes[i].base = bases[i];
    ropes[i].fraction = fractions[i];
    if (fractions[i] > 1.0) {
      config.problem_text(
          "partial_rotary_factors",
          fmt::format("[{}] = {}, allowed a number in (0, 1]", i, format_double(fractions[i])));
    }
  }
  return ropes;
}

/// `rope_parameters`: one object per layer type.
Ropes read_typed_ropes(ConfigReader& config, const Frame& frame, const RopeDefaults& defaults) {
  auto by_type = config.object("rope_parameters");
  std::map<std::string, spec::RopeSpec> ropes;
  Ropes result(frame.total());
  if (!by_type) return result;
  for (const std::string& type : std::set(frame.types.begin(), frame.types.end())) {
    if (auto rope = by_type->object(type)) {
      ropes[type] = read_rope(*rope, defaults);
    } else if (!by_type->has(type)) {
      by_type->problem(type, "an object: rotary positions of this layer type");
    }
  }
  for (size_t i = 0; i < frame.total(); ++i) result[i] = ropes[frame.types[i]];
  return result;
}

Ropes read_ropes(ConfigReader& config, const Frame& frame, int64_t max_positions) {
  RopeDefaults defaults;
  defaults.max_positions = static_cast<double>(max_positions);
  const Json* given = config.find("rope_parameters");
  if (given == nullptr || given->empty()) return read_published_ropes(config, frame, defaults);
  const Ropes typed = read_typed_ropes(config, frame, defaults);
  const Json* bases = config.find("rope_theta");
  config.find("yarn_only_types");
  const bool has_both = config.has("rope_scaling") || config.has("partial_rotary_factors") ||
                        (bases != nullptr && bases->is_array());
  if (!has_both) return typed;
  const Ropes published = read_published_ropes(config, frame, defaults);
  for (size_t i = 0; i < frame.total(); ++i) {
    if (published[i] == typed[i]) continue;
    config.problem_text("rope_parameters",
                        fmt::format("differs from rope_theta, partial_rotary_factors and "
                                    "rope_scaling on layer {}; keep one of the two",
                                    i));
    break;
  }
  return typed;
}

/// Layers that `use_rope_layers` leaves without positions: an empty or absent list leaves none.
std::vector<bool> read_use_rope(ConfigReader& config, const Frame& frame) {
  std::vector<bool> uses(frame.total(), true);
  const Json* list = config.find("use_rope_layers");
  if (list == nullptr || (list->is_array() && list->empty())) return uses;
  if (!list->is_array()) {
    config.problem("use_rope_layers", "a list of 0 | 1 per layer");
    return uses;
  }
  Json numbers = Json::array();
  for (const Json& item : *list)
    numbers.push_back(item.is_boolean() ? Json(item.get<bool>() ? 1 : 0) : item);
  if (numbers.size() != frame.layers && numbers.size() != frame.layers + frame.extra) {
    config.problem("use_rope_layers", fmt::format("a list of {}", frame.layers));
    return uses;
  }
  for (size_t i = 0; i < numbers.size(); ++i) {
    if (numbers[i] != 0 && numbers[i] != 1) {
      config.problem_text("use_rope_layers",
                          fmt::format("[{}] = {}, allowed 0 | 1", i, json_summary(numbers[i])));
    }
    uses[i] = numbers[i] != 0;
  }
  return uses;
}

/// Flags that the published code reads and transformers takes for granted.
struct Flags {
  spec::NormSpec norm;
  bool has_qk_norm;
  bool has_gate;
  bool attention_bias;
  bool mlp_bias;
  std::optional<double> scale_width;  // query_pre_attn_scalar: scale is this^-0.5
};

Flags read_flags(ConfigReader& config) {
  Flags flags;
  flags.norm.eps = config.number("rms_norm_eps", 1e-5, 0.0);
  if (config.boolean("zero_centered", true)) flags.norm.weight = spec::NormWeight::kZeroCentered;
  flags.has_qk_norm = config.boolean("use_qk_norm", true);
  flags.has_gate = config.boolean("use_head_wise_attn_gate", true);
  flags.attention_bias = config.boolean("attention_bias", false);
  flags.mlp_bias = config.boolean("mlp_bias", false);
  flags.scale_width = config.optional_number("query_pre_attn_scalar");
  if (config.text("hidden_act", "silu") != "silu") config.problem("hidden_act", "silu");
  return flags;
}

spec::AttentionSpec make_attention(const Heads& heads, const Flags& flags) {
  spec::AttentionSpec attention;
  attention.num_heads = heads.query;
  attention.num_kv_heads = heads.key_value;
  attention.head_dim = heads.head_dim;
  attention.v_head_dim = heads.head_dim;
  const auto dim = static_cast<double>(heads.head_dim);
  attention.scale = flags.scale_width && *flags.scale_width != dim
                        ? 1.0 / std::sqrt(*flags.scale_width)
                        : default_scale(heads.head_dim);
  if (flags.has_qk_norm) attention.q_norm = attention.k_norm = flags.norm;
  if (flags.has_gate) attention.gate.kind = spec::GateKind::kHeadWise;
  attention.qkv_bias = flags.attention_bias;
  attention.output_bias = flags.attention_bias;
  return attention;
}

void read_layers(ConfigReader& config, const Frame& frame, spec::ModelSpec& model) {
  const auto heads = read_heads(config, model.hidden_size, frame);
  const auto ropes = read_ropes(config, frame, model.max_positions);
  const auto uses_rope = read_use_rope(config, frame);
  const Flags flags = read_flags(config);
  const auto limits = config.per_layer("swiglu_limits_shared", frame.layers, frame.extra, 0.0, 0.0);
  const auto window = config.optional_integer("sliding_window", {1, config::kMaxTokens});
  const auto mixtures = read_moe(config, frame);
  spec::DenseMlpSpec mlp;
  mlp.intermediate_size = config.required_integer("intermediate_size", {1, config::kMaxWidth});
  mlp.bias = flags.mlp_bias;
  for (size_t i = 0; i < frame.total(); ++i) {
    spec::LayerSpec layer;
    layer.block = frame.types[i];
    spec::AttentionSpec attention = make_attention(heads[i], flags);
    if (uses_rope[i]) attention.rope = ropes[i];
    if (frame.types[i] == kSliding) attention.window = window;
    mlp.limit = limits[i] > 0.0 ? std::optional<double>(limits[i]) : std::nullopt;
    layer.mixer = attention;
    if (mixtures[i]) {
      layer.mlp = *mixtures[i];
    } else {
      layer.mlp = mlp;
    }
    layer.pre_mixer_norm = layer.pre_mlp_norm = flags.norm;
    model.layers.push_back(std::move(layer));
  }
  model.head.final_norm = flags.norm;
  split_mtp(model, frame.extra);
  if (model.mtp) {
    model.mtp->hidden = spec::MtpHidden::kResidual;
    model.mtp->own_head = true;
  }
  const bool needs_window = std::ranges::find(frame.types, kSliding) != frame.types.end();
  if (needs_window && !window)
    config.problem("sliding_window", "an integer >= 1 (layer_types has sliding layers)");
}

}  // namespace

spec::ModelSpec read(ConfigReader& config) {
  spec::ModelSpec model;
  const Frame frame = read_frame(config);
  model.hidden_size = config.required_integer("hidden_size", {1, config::kMaxWidth});
  model.embedding.vocab_size = config.required_integer("vocab_size", {1, config::kMaxVocab});
  const int64_t sequence = config.integer("max_seq_len", {1, config::kMaxTokens}, 128000);
  model.max_positions =
      config.integer("max_position_embeddings", {1, config::kMaxTokens}, sequence);
  constexpr int64_t kDefaultPadding = 1;
  model.embedding.padding_id = read_padding_id(config, model.embedding.vocab_size, kDefaultPadding);
  const Json* padding = config.find("pad_token_id");
  if (padding != nullptr && *padding == kNoPadding) model.embedding.padding_id.reset();
  read_model_flags(config, model);
  config.throw_if_any();  // the layers below are built from these
  read_layers(config, frame, model);
  refuse_unsupported(config);
  const auto rope_of = [&](int64_t index) {
    return std::get<spec::AttentionSpec>(spec::block_at(model, index).mixer).rope;
  };
  for (int64_t i = 1; i < spec::num_blocks(model); ++i) {
    model.rope_per_layer = model.rope_per_layer || rope_of(i) != rope_of(0);
  }
  return model;
}

}  // namespace headway::io::step3p5
