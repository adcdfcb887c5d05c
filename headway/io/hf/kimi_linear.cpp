// Family `kimi_linear`: delta attention with a decay per channel and low-rank gates, latent
// attention without positions between, sigmoid-routed experts behind the first dense layers.
// Not for: block-scaled weights.
#include <algorithm>

#include <fmt/format.h>

#include "headway/base/error.h"
#include "headway/io/hf/hybrid_decoder.h"
#include "headway/io/hf/moe_family.h"

namespace headway::io {
namespace {

using spec::GatedDeltaNetSpec;
using spec::LatentAttentionSpec;

constexpr const char* kLinearConfig = "linear_attn_config";
constexpr spec::NormSpec kLatentNorm{.eps = 1e-6};  // whatever rms_norm_eps says
constexpr MoeForm kMoeForm{.score = spec::RouterScore::kSigmoid,
                           .expert_bias = true,
                           .scale = true,
                           .groups = true,
                           .shared = true};
constexpr int64_t kBestOfGroup = 2;
constexpr int64_t kInterval = 4;

/// A key under its published name or the one that transformers gives it; both must agree.
int64_t read_either(ConfigReader& config, const char* name, const char* other, IntegerRange range,
                    std::optional<int64_t> otherwise) {
  const auto first = config.optional_integer(name, range);
  const auto second = config.optional_integer(other, range);
  if (first && second && *first != *second) {
    config.problem(other, fmt::format("the value of {} (= {})", name, *first));
  }
  if (first || second) return first ? *first : *second;
  return otherwise ? *otherwise : config.required_integer(name, range);
}

/// Layers of a list that counts from 1.
void mark_layers(ConfigReader& nested, const char* key, bool value, std::vector<int>& kinds) {
  const Json* list = nested.find(key);
  if (list == nullptr || !list->is_array()) return nested.problem(key, "a list of layer numbers");
  for (const Json& item : *list) {
    const bool fits = item.is_number_integer() && item >= 1 && item <= kinds.size();
    if (!fits) return nested.problem(key, fmt::format("layer numbers from 1 to {}", kinds.size()));
    kinds[item.get<size_t>() - 1] = value ? 1 : 0;
  }
}

/// Which layers have delta attention: layer_types, the lists of linear_attn_config, or all but
/// every fourth behind the first.
std::vector<bool> read_linear(ConfigReader& config, std::optional<ConfigReader>& nested,
                              size_t layers) {
  std::vector<int> kinds(layers, -1);
  const auto types = config.layer_texts("layer_types", layers, 0);
  for (size_t i = 0; types && i < layers; ++i) {
    kinds[i] = (*types)[i] == kLinearAttention ? 1 : (*types)[i] == kFullAttention ? 0 : -1;
  }
  if (nested && nested->has("kda_layers") && nested->has("full_attn_layers")) {
    std::vector<int> listed(layers, -1);
    mark_layers(*nested, "kda_layers", true, listed);
    mark_layers(*nested, "full_attn_layers", false, listed);
    if (!types) kinds = listed;
  } else if (!types) {
    for (size_t i = 0; i < layers; ++i) kinds[i] = i > 0 && i % kInterval == 0 ? 0 : 1;
  }
  if (std::ranges::find(kinds, -1) != kinds.end()) {
    config.problem_text("layer_types", "needs linear_attention or full_attention for every layer");
  }
  std::vector<bool> linear(layers);
  for (size_t i = 0; i < layers; ++i) linear[i] = kinds[i] == 1;
  return linear;
}

GatedDeltaNetSpec read_delta(ConfigReader& config, std::optional<ConfigReader>& nested,
                             const spec::NormSpec& norm) {
  const auto size = [&](const char* inner, const char* flat, int64_t most) {
    const auto value = nested ? nested->optional_integer(inner, {1, most}) : std::nullopt;
    return value ? *value : config.required_integer(flat, {1, most});
  };
  GatedDeltaNetSpec mixer;
  mixer.num_key_heads = size("num_heads", "linear_num_heads", config::kMaxHeads);
  mixer.num_value_heads = mixer.num_key_heads;
  mixer.key_head_dim = size("head_dim", "linear_head_dim", config::kMaxHeadDim);
  mixer.value_head_dim = mixer.key_head_dim;
  mixer.conv_size = size("short_conv_kernel_size", "linear_conv_kernel_dim", config::kMaxConvSize);
  mixer.gate = spec::DeltaGate::kSigmoid;
  mixer.decay_rank = mixer.gate_rank = mixer.key_head_dim;
  mixer.norm = norm;
  return mixer;
}

LatentAttentionSpec read_latent(ConfigReader& config) {
  const IntegerRange channels{1, config::kMaxHeadDim}, width{1, config::kMaxWidth};
  LatentAttentionSpec mixer;
  mixer.num_heads = config.required_integer("num_attention_heads", {1, config::kMaxHeads});
  const auto kv_heads = config.optional_integer("num_key_value_heads", {1, config::kMaxHeads});
  if (kv_heads && *kv_heads != mixer.num_heads) {
    config.problem("num_key_value_heads",
                   fmt::format("null or num_attention_heads (= {})", mixer.num_heads));
  }
  mixer.q_lora_rank = config.optional_integer("q_lora_rank", width);
  mixer.kv_lora_rank = config.required_integer("kv_lora_rank", width);
  mixer.nope_head_dim = config.required_integer("qk_nope_head_dim", channels);
  mixer.rope_head_dim = config.required_integer("qk_rope_head_dim", channels);
  mixer.v_head_dim = config.required_integer("v_head_dim", channels);
  mixer.rope.reset();
  mixer.latent_norm = kLatentNorm;
  mixer.latent_bias = mixer.output_bias = config.boolean("attention_bias", false);
  if (!config.boolean("mla_use_nope", true)) {
    throw UnsupportedError(
        "[config.json] mla_use_nope = false: latent attention with positions is not part of this "
        "family; allowed true");
  }
  for (const char* unused : {"head_dim", "qk_head_dim", "rope_theta", "rope_scaling",
                             "rope_parameters", "pretraining_tp", "use_grouped_topk"}) {
    config.mark(unused);
  }
  return mixer;
}

spec::MoeSpec read_moe(ConfigReader& config, spec::Activation activation) {
  const IntegerRange experts{1, config::kMaxExperts};
  spec::MoeSpec moe;
  moe.num_experts = read_either(config, "num_experts", "num_local_experts", experts, {});
  moe.top_k = read_either(config, "num_experts_per_token", "num_experts_per_tok", experts, {});
  moe.intermediate_size = config.required_integer("moe_intermediate_size", {1, config::kMaxWidth});
  moe.activation = activation;
  spec::RouterSpec& router = moe.router;
  router.score = spec::RouterScore::kSigmoid;
  router.expert_bias = true;
  router.normalize =
      config.boolean(config.has("norm_topk_prob") ? "norm_topk_prob" : "moe_renormalize", true);
  router.scale = config.number("routed_scaling_factor", 2.446);
  router.num_groups = read_either(config, "num_expert_group", "n_group", experts, 1);
  router.kept_groups = config.integer("topk_group", experts, 1);
  if (router.num_groups > 1) router.best_of_group = kBestOfGroup;
  const int64_t shared = read_either(config, "num_shared_experts", "n_shared_experts", experts, 1);
  moe.shared = spec::SharedExpertSpec{.intermediate_size = shared * moe.intermediate_size};
  if (config.text("moe_router_activation_func", "sigmoid") != "sigmoid") {
    config.problem("moe_router_activation_func", "sigmoid");
  }
  return moe;
}

std::vector<bool> read_sparse(ConfigReader& config, size_t layers) {
  const int64_t first = config.integer("first_k_dense_replace", {0, config::kMaxLayers}, 1);
  if (config.integer("moe_layer_freq", {1, config::kMaxLayers}, 1) != 1) {
    config.problem("moe_layer_freq", "1");
  }
  std::vector<bool> sparse(layers);
  for (size_t i = 0; i < layers; ++i) sparse[i] = static_cast<int64_t>(i) >= first;
  const auto types = config.layer_texts("mlp_layer_types", layers, 0);
  for (size_t i = 0; types && i < layers; ++i) {
    sparse[i] = (*types)[i] == "sparse";
    if (!sparse[i] && (*types)[i] != "dense") config.problem("mlp_layer_types", "dense | sparse");
  }
  return sparse;
}

spec::ModelSpec read(ConfigReader& config) {
  const IntegerRange width{1, config::kMaxWidth};
  spec::ModelSpec model;
  model.hidden_size = config.required_integer("hidden_size", width);
  model.embedding.vocab_size = config.required_integer("vocab_size", {1, config::kMaxVocab});
  model.max_positions = read_either(config, "model_max_length", "max_position_embeddings",
                                    {1, config::kMaxTokens}, 1048576);
  const auto layers =
      static_cast<size_t>(config.required_integer("num_hidden_layers", {1, config::kMaxLayers}));
  const spec::NormSpec norm{.eps = config.number("rms_norm_eps", 1e-5, 0.0)};
  auto nested = config.object(kLinearConfig);
  const auto linear = read_linear(config, nested, layers);
  const GatedDeltaNetSpec delta = read_delta(config, nested, norm);
  const LatentAttentionSpec latent = read_latent(config);
  spec::DenseMlpSpec mlp;
  mlp.intermediate_size = config.required_integer("intermediate_size", width);
  mlp.activation = read_activation(config);
  const auto sparse = read_sparse(config, layers);
  const bool routed = std::ranges::find(sparse, true) != sparse.end();
  const spec::MoeSpec moe = routed ? read_moe(config, mlp.activation) : spec::MoeSpec{};
  for (size_t i = 0; i < layers; ++i) {
    spec::LayerSpec& layer = model.layers.emplace_back();
    layer.block = linear[i] ? kLinearAttention : kFullAttention;
    layer.mixer = latent;
    if (linear[i]) layer.mixer = delta;
    layer.mlp = mlp;
    if (sparse[i]) layer.mlp = moe;
    layer.pre_mixer_norm = layer.pre_mlp_norm = norm;
  }
  model.head.final_norm = norm;
  model.embedding.padding_id = read_padding_id(config, model.embedding.vocab_size);
  if (config.integer("num_nextn_predict_layers", {0, config::kMaxLayers}, 0) != 0) {
    config.problem("num_nextn_predict_layers", "0");
  }
  read_model_flags(config, model);
  return model;
}

void mixer_reasons(const spec::ModelSpec& spec, Reasons& reasons) {
  const LatentAttentionSpec* latent = nullptr;
  for (size_t i = 0; i < spec.layers.size(); ++i) {
    const auto add_if = [&](bool condition, const char* feature) {
      if (condition) reasons.add_layer(i, feature);
    };
    if (const GatedDeltaNetSpec* delta = spec::delta_net_of(spec.layers[i])) {
      const int64_t rank = delta->key_head_dim;
      add_if(delta->decay_rank != rank || delta->gate_rank != rank,
             "delta attention whose decay or gate has another rank than a head");
      add_if(delta->num_key_heads != delta->num_value_heads || delta->value_head_dim != rank,
             "delta attention with unequal key and value heads");
      add_if(delta->gate != spec::DeltaGate::kSigmoid, "an output gate other than sigmoid");
      add_if(delta->negative_eigenvalues, "beta up to 2");
      continue;
    }
    const auto* mixer = std::get_if<LatentAttentionSpec>(&spec.layers[i].mixer);
    add_if(mixer == nullptr, "an attention that is not latent");
    if (mixer == nullptr) continue;
    if (latent == nullptr) latent = mixer;
    LatentAttentionSpec same = *mixer;
    same.dropout = latent->dropout;
    add_if(same != *latent, "another latent attention than the first");
    add_if(mixer->rope.has_value(), "rotary positions");
    add_if(mixer->scale.has_value(), "another attention scale");
    add_if(mixer->latent_norm != kLatentNorm, "latent norms other than RMS norms of eps 1e-6");
    add_if(mixer->latent_bias != mixer->output_bias, "a bias on only some projections");
    add_if(mixer->indexer || mixer->shared_choice, "sparse attention");
  }
  reasons.add_if(latent == nullptr, "no layer with latent attention");
  reasons.add_if(first_linear(spec) == nullptr, "no layer with delta attention");
}

std::vector<std::string> inexpressible(const spec::ModelSpec& spec) {
  Reasons reasons;
  common_reasons(spec, spec::NormWeight::kPlain, reasons);
  mixer_reasons(spec, reasons);
  delta_net_reasons(spec,
                    {.gate = spec::DeltaGate::kSigmoid,
                     .norm_eps = spec.head.final_norm ? spec.head.final_norm->eps : 0.0,
                     .low_rank = true},
                    reasons);
  moe_reasons(spec, kMoeForm, reasons);
  const spec::DenseMlpSpec first_mlp = dense_or_expert(spec);
  for (size_t i = 0; i < spec.layers.size(); ++i) {
    const auto* mlp = std::get_if<spec::DenseMlpSpec>(&spec.layers[i].mlp);
    if (mlp != nullptr && *mlp != first_mlp) reasons.add_layer(i, "another MLP than layer 0");
    if (mlp != nullptr && (mlp->bias || mlp->limit)) {
      reasons.add_layer(i, "a bias or a limit in the MLP");
    }
  }
  return reasons.lines();
}

void write_moe(const spec::ModelSpec& spec, Json& json) {
  json["mlp_layer_types"] = Json::array();
  for (const spec::LayerSpec& layer : spec.layers) {
    json["mlp_layer_types"].push_back(spec::moe_of(layer) != nullptr ? "sparse" : "dense");
  }
  const spec::MoeSpec* moe = first_moe(spec);
  if (moe == nullptr) return;
  json["num_experts"] = moe->num_experts;
  json["num_experts_per_token"] = moe->top_k;
  json["moe_intermediate_size"] = moe->intermediate_size;
  json["num_shared_experts"] = moe->shared->intermediate_size / moe->intermediate_size;
  json["num_expert_group"] = moe->router.num_groups;
  json["topk_group"] = moe->router.kept_groups;
  json["moe_renormalize"] = moe->router.normalize;
  json["routed_scaling_factor"] = moe->router.scale;
}

Json write(const spec::ModelSpec& spec) {
  const GatedDeltaNetSpec& delta = *first_linear(spec);
  const auto latent = std::ranges::find_if(spec.layers, [](const spec::LayerSpec& layer) {
    return std::holds_alternative<LatentAttentionSpec>(layer.mixer);
  });
  const auto& mixer = std::get<LatentAttentionSpec>(latent->mixer);
  const spec::DenseMlpSpec mlp = dense_or_expert(spec);
  Json json;
  json["vocab_size"] = spec.embedding.vocab_size;
  json["hidden_size"] = spec.hidden_size;
  json["intermediate_size"] = mlp.intermediate_size;
  json["num_hidden_layers"] = spec.layers.size();
  json["num_attention_heads"] = mixer.num_heads;
  json["num_key_value_heads"] = mixer.num_heads;
  json["q_lora_rank"] = mixer.q_lora_rank ? Json(*mixer.q_lora_rank) : Json(nullptr);
  json["kv_lora_rank"] = mixer.kv_lora_rank;
  json["qk_nope_head_dim"] = mixer.nope_head_dim;
  json["qk_rope_head_dim"] = mixer.rope_head_dim;
  json["v_head_dim"] = mixer.v_head_dim;
  json["attention_bias"] = mixer.output_bias;
  json["hidden_act"] = activation_name(mlp.activation);
  json["model_max_length"] = spec.max_positions;
  json["initializer_range"] = spec.init.std;
  json["rms_norm_eps"] = spec.head.final_norm->eps;
  json["linear_num_heads"] = delta.num_key_heads;
  json["linear_head_dim"] = delta.key_head_dim;
  json["linear_conv_kernel_dim"] = delta.conv_size;
  json["layer_types"] = layer_types(spec);
  json["tie_word_embeddings"] = spec.head.tied;
  json["pad_token_id"] =
      spec.embedding.padding_id ? Json(*spec.embedding.padding_id) : Json(nullptr);
  write_moe(spec, json);
  return json;
}

/// Both kinds of attention are called self_attn; experts lie beside the dense MLP, whose names a
/// folder saved by transformers changes too.
std::vector<Rule> rules(const spec::ModelSpec&) {
  std::vector<Rule> rules{IgnoreRule{"*rotary_emb.inv_freq", "computed from the config"}};
  const std::string layer = "model.layers.{}.", sparse = layer + "block_sparse_moe.";
  const auto map = [&](const std::string& ours, const std::string& theirs,
                       const Transform* transform = &kCopy, bool alternative = false) {
    rules.push_back(MapRule{{layer + ours}, {theirs}, transform, alternative});
  };
  const std::string linear = "linear_attn.", self = layer + "self_attn.";
  for (const char* name : {"q_proj", "k_proj", "v_proj", "g_a_proj", "g_b_proj", "f_a_proj",
                           "f_b_proj", "b_proj", "q_conv1d", "k_conv1d", "v_conv1d"}) {
    map(linear + name + ".weight", self + name + ".weight");
  }
  map(linear + "dt_bias", self + "dt_bias");
  map(linear + "A_log", self + "A_log", &kHeadAxis);
  map(linear + "norm.weight", self + "o_norm.weight");
  map(linear + "out_proj.weight", self + "o_proj.weight");
  map("mlp.gate.weight", sparse + "gate.weight");
  map("mlp.gate.e_score_correction_bias", sparse + "gate.e_score_correction_bias");
  const std::pair<const char*, const char*> parts[] = {
      {"gate_proj", "w1"}, {"up_proj", "w3"}, {"down_proj", "w2"}};
  for (const auto& [ours, theirs] : parts) {
    const std::string name = std::string(ours) + ".weight";
    map("mlp.experts.{}." + name, sparse + "experts.{}." + theirs + ".weight");
    map("mlp.shared_expert." + name, sparse + "shared_experts." + name);
    map("mlp." + name, sparse + name, &kCopy, /*alternative=*/true);
  }
  return rules;
}

}  // namespace

const Family& kimi_linear_family() {
  static const Family kFamily{
      .name = "kimi_linear",
      .architecture = "KimiLinearForCausalLM",
      .read = read,
      .inexpressible = inexpressible,
      .write = write,
      .rules = rules,
      .knows = {
          .experts = true, .linear_attention = true, .latent_attention = true, .attention = false}};
  return kFamily;
}

}  // namespace headway::io
