// Family `olmo_hybrid`: Gated DeltaNet layers with norms before their parts, full layers with norms
// behind them, q/k norms over all heads at once, rotary positions or none.
// Not for: initialisation keys (linear_a_log_*, linear_dt_*), which no loaded model needs.
#include <algorithm>

#include <fmt/format.h>

#include "headway/io/hf/hybrid_decoder.h"
#include "headway/io/hf/rope_config.h"

namespace headway::io {
namespace {

constexpr double kOutputNormEps = 1e-5;  // whatever rms_norm_eps says
constexpr int64_t kDefaultPaddingId = 100277;

/// layer_types; without it every fourth layer is full, and the last of a shorter stack.
std::vector<bool> read_linear(ConfigReader& config, size_t layers) {
  const bool given = config.has("layer_types");
  std::vector<bool> linear = read_linear_layers(config, layers);
  if (!given && std::ranges::count(linear, false) == 0) linear.back() = false;
  const auto full = std::ranges::count(linear, false);
  if (full == 0 || full == static_cast<std::ptrdiff_t>(layers)) {
    config.problem_text("layer_types",
                        "needs a linear_attention and a full_attention layer in this family");
  }
  return linear;
}

/// rope_parameters with rope_theta null: no positions at all. Without rope_parameters there are.
bool has_rope(ConfigReader& config) {
  auto rope = config.object("rope_parameters");
  return !rope || !rope->is_present("rope_theta") || rope->has("rope_theta");
}

spec::GatedDeltaNetSpec read_mixer(ConfigReader& config, int64_t hidden, int64_t heads) {
  const int64_t key_heads = config.integer("linear_num_key_heads", {1, config::kMaxHeads}, heads);
  const int64_t key_dim = std::max<int64_t>(3 * hidden / (4 * key_heads), 1);
  const int64_t given = config.integer("linear_key_head_dim", {1, config::kMaxHeadDim},
                                       std::min(key_dim, config::kMaxHeadDim));
  spec::GatedDeltaNetSpec defaults;
  defaults.num_key_heads = key_heads;
  defaults.num_value_heads = heads;
  defaults.key_head_dim = given;
  defaults.value_head_dim = std::min(2 * given, config::kMaxHeadDim);
  defaults.negative_eigenvalues = config.boolean("linear_allow_neg_eigval", true);
  defaults.norm.eps = kOutputNormEps;
  for (const char* key : {"linear_a_log_min", "linear_a_log_max", "linear_dt_min", "linear_dt_max",
                          "linear_dt_init_floor"}) {
    config.mark(key);
  }
  return read_delta_net(config, defaults);
}

spec::ModelSpec read(ConfigReader& config) {
  spec::ModelSpec model = read_plain_decoder(config, {.max_positions = 65536});
  if (!config.is_present("pad_token_id") && model.embedding.vocab_size > kDefaultPaddingId) {
    model.embedding.padding_id = kDefaultPaddingId;
  }
  const bool bias = config.boolean("attention_bias", false), rope = has_rope(config);
  const spec::NormSpec norm = *model.head.final_norm;
  const auto linear = read_linear(config, model.layers.size());
  const auto heads = std::get<spec::AttentionSpec>(model.layers.front().mixer).num_heads;
  const spec::GatedDeltaNetSpec mixer = read_mixer(config, model.hidden_size, heads);
  for (size_t i = 0; i < model.layers.size(); ++i) {
    spec::LayerSpec& layer = model.layers[i];
    if (linear[i]) {
      layer.block = kLinearAttention;
      layer.mixer = mixer;
      continue;
    }
    layer.pre_mixer_norm.reset();
    layer.pre_mlp_norm.reset();
    layer.post_mixer_norm = layer.post_mlp_norm = norm;
    auto& attention = std::get<spec::AttentionSpec>(layer.mixer);
    attention.q_norm = attention.k_norm = norm;
    attention.qk_norm_across_heads = true;
    attention.qkv_bias = attention.output_bias = bias;
    if (!rope) attention.rope.reset();
  }
  return model;
}

/// Norms where the family has them: reported here, then moved to where the common reasons look.
void norm_places(spec::ModelSpec& spec, Reasons& reasons) {
  for (size_t i = 0; i < spec.layers.size(); ++i) {
    spec::LayerSpec& layer = spec.layers[i];
    const bool full = spec::attention_of(layer) != nullptr;
    const bool before = layer.pre_mixer_norm || layer.pre_mlp_norm;
    const bool behind = layer.post_mixer_norm || layer.post_mlp_norm;
    if (full && before) reasons.add_layer(i, "norms before the parts of a full layer");
    if (!full && behind) reasons.add_layer(i, "norms behind the parts of a linear layer");
    if (!full) continue;
    layer.pre_mixer_norm = layer.post_mixer_norm;
    layer.pre_mlp_norm = layer.post_mlp_norm;
    layer.post_mixer_norm.reset();
    layer.post_mlp_norm.reset();
  }
}

void full_reasons(size_t i, const spec::AttentionSpec& attention, const spec::AttentionSpec& first,
                  Reasons& reasons) {
  const auto add_if = [&](bool condition, const char* feature) {
    if (condition) reasons.add_layer(i, feature);
  };
  spec::AttentionSpec same = attention;
  same.rope = first.rope;
  same.dropout = first.dropout;
  add_if(same != first, "another attention than the first full layer's");
  add_if(attention.rope.has_value() != first.rope.has_value() ||
             (attention.rope && canonical_rope(*attention.rope) != canonical_rope(*first.rope)),
         "other rotary positions than the first full layer's");
  add_if(attention.rope && attention.rope->fraction != 1.0, "partial rotation");
  add_if(attention.gate.kind != spec::GateKind::kNone, "an output gate");
  add_if(!attention.q_norm || !attention.qk_norm_across_heads, "no q/k norm across heads");
  add_if(attention.window.has_value(), "a sliding window");
  add_if(attention.qkv_bias != attention.output_bias, "a bias on only some of the projections");
}

std::vector<std::string> inexpressible(const spec::ModelSpec& spec) {
  Reasons reasons;
  spec::ModelSpec moved = spec;
  norm_places(moved, reasons);
  common_reasons(moved, spec::NormWeight::kPlain, reasons);
  delta_net_reasons(spec, {.norm_eps = kOutputNormEps}, reasons);
  const auto* first = first_attention(spec);
  reasons.add_if(first == nullptr, "no full layer");
  reasons.add_if(first_linear(spec) == nullptr, "no Gated DeltaNet layer");
  const spec::DenseMlpSpec first_mlp = dense_or_expert(spec);
  for (size_t i = 0; i < spec.layers.size(); ++i) {
    if (const auto* attention = spec::attention_of(spec.layers[i])) {
      full_reasons(i, *attention, *first, reasons);
    }
    const auto* mlp = std::get_if<spec::DenseMlpSpec>(&spec.layers[i].mlp);
    if (mlp == nullptr) continue;
    if (*mlp != first_mlp) reasons.add_layer(i, "another MLP than layer 0");
    if (mlp->bias || mlp->limit) reasons.add_layer(i, "a bias or a limit in the MLP");
  }
  return reasons.lines();
}

Json write(const spec::ModelSpec& spec) {
  const spec::AttentionSpec& attention = *first_attention(spec);
  spec::ModelSpec with_rope = spec;  // the common keys need one
  for (spec::LayerSpec& layer : with_rope.layers) {
    auto* held = std::get_if<spec::AttentionSpec>(&layer.mixer);
    if (held != nullptr && !held->rope) held->rope.emplace();
  }
  Json json = write_plain_decoder(with_rope);
  json["attention_bias"] = attention.qkv_bias;
  if (!attention.rope) {
    json.erase("rope_theta");
    json.erase("rope_scaling");
    json["rope_parameters"] = {{"rope_theta", nullptr}, {"rope_type", "default"}};
  }
  write_delta_net(*first_linear(spec), json);
  json["linear_allow_neg_eigval"] = first_linear(spec)->negative_eigenvalues;
  json["layer_types"] = layer_types(spec);
  return json;
}

/// Released names, and as alternatives those of a folder that transformers saved again: other norm
/// names, the stacked convolution in three parts of equal rows.
std::vector<Rule> rules(const spec::ModelSpec&) {
  std::vector<Rule> rules{IgnoreRule{"*rotary_emb.inv_freq", "computed from the config"}};
  const std::string layer = "model.layers.{}.", linear = layer + "linear_attn.";
  const std::vector<std::string> conv{linear + "q_conv1d.weight", linear + "k_conv1d.weight",
                                      linear + "v_conv1d.weight"};
  const auto map = [&](const std::string& ours, const std::string& theirs, bool alternative) {
    rules.push_back(MapRule{{ours}, {theirs}, &kCopy, alternative});
  };
  map(layer + "input_layernorm.weight", layer + "attention_layer_norm.weight", true);
  map(layer + "post_attention_layernorm.weight", layer + "feedforward_layer_norm.weight", true);
  rules.push_back(MapRule{conv, conv, &kThirds, /*alternative=*/true});
  map(linear + "z_proj.weight", linear + "g_proj.weight", false);
  map(linear + "norm.weight", linear + "o_norm.weight", false);
  map(linear + "out_proj.weight", linear + "o_proj.weight", false);
  return rules;
}

}  // namespace

const Family& olmo_hybrid_family() {
  static const Family kFamily{.name = "olmo_hybrid",
                              .architecture = "OlmoHybridForCausalLM",
                              .read = read,
                              .inexpressible = inexpressible,
                              .write = write,
                              .rules = rules,
                              .knows = {.linear_attention = true}};
  return kFamily;
}

}  // namespace headway::io
