// The families by name, and what reading and writing a config has in common for all of them.
// Not for: keys of single families.
#include "headway/io/hf/family.h"

#include <algorithm>

#include <fmt/format.h>

#include "headway/base/error.h"
#include "headway/base/text_util.h"
#include "headway/io/hf/reasons.h"
#include "headway/io/hf/rope_config.h"
#include "headway/spec/latent_attention.h"

namespace headway::io {
namespace {

const std::vector<const Family*>& families() {
  static const std::vector<const Family*> kFamilies = {
      &deepseek_v3_family(),
      &deepseek_v32_family(),
      &gemma3_text_family(),
      &gemma4_family(),
      &gemma4_text_family(),
      &gemma4_unified_family(),
      &gemma4_unified_text_family(),
      &glm_moe_dsa_family(),
      &gpt_oss_family(),
      &headway_family(),
      &kimi_linear_family(),
      &llama_family(),
      &minimax_m2_family(),
      &mistral_family(),
      &olmo_hybrid_family(),
      &qwen2_family(),
      &qwen3_family(),
      &qwen3_moe_family(),
      &qwen3_next_family(),
      &qwen3_5_family(),
      &qwen3_5_text_family(),
      &qwen3_5_moe_family(),
      &qwen3_5_moe_text_family(),
      &step3p5_family(),
  };
  return kFamilies;
}

/// Keys that say nothing about the model's function: not worth a line in the log.
constexpr auto kInertKeys = std::to_array<std::string_view>({"model_type",
                                                             "architectures",
                                                             "transformers_version",
                                                             "dtype",
                                                             "torch_dtype",
                                                             "use_cache",
                                                             "bos_token_id",
                                                             "eos_token_id",
                                                             "pad_token_id",
                                                             "attention_dropout",
                                                             "pretraining_tp",
                                                             "auto_map",
                                                             "return_dict",
                                                             "output_attentions",
                                                             "output_hidden_states",
                                                             "_name_or_path",
                                                             "moe_every_n_layer",
                                                             "moe_layer_offset",
                                                             "moe_router_activation",
                                                             "use_moe_router_bias",
                                                             "need_fp32_gate",
                                                             "norm_expert_weight",
                                                             "moe_num_experts",
                                                             "n_routed_experts",
                                                             "moe_top_k",
                                                             "num_experts_per_tok",
                                                             "moe_intermediate_size",
                                                             "share_expert_dim",
                                                             "share_expert_dims",
                                                             "moe_router_scaling_factor",
                                                             "swiglu_limits",
                                                             "mtp_layer_types",
                                                             "mtp_mlp_layer_types",
                                                             "output_router_logits",
                                                             "router_aux_loss_coef",
                                                             "router_jitter_noise",
                                                             "headway",
                                                             "source"});

std::string dtype_key(const Json* original) {
  return original != nullptr && original->contains("dtype") ? "dtype" : "torch_dtype";
}

/// The original with the model's keys set anew: order and unknown keys stay, keys that the family
/// reads but does not write go.
Json merge(const Json& original, const ReadConfig& read, const Json& generated) {
  Json result = Json::object();
  for (const auto& [key, value] : original.items()) {
    const bool is_read = std::ranges::find(read.read_keys, key) != read.read_keys.end();
    if (generated.contains(key)) {
      result[key] = generated[key];
    } else if (!is_read) {
      result[key] = value;
    }
  }
  for (const auto& [key, value] : generated.items()) result[key] = value;
  return result;
}

/// The dropout of all attention layers, which `attention_dropout` says of a whole model; 0 when
/// they differ. It belongs to training, so it is no reason to refuse an export.
double common_dropout(const spec::ModelSpec& spec) {
  std::optional<double> common;
  for (const spec::LayerSpec& layer : spec.layers) {
    const spec::AttentionSpec* attention = spec::attention_of(layer);
    const spec::LatentAttentionSpec* latent = spec::latent_of(layer);
    if (attention == nullptr && latent == nullptr) continue;
    const double dropout = attention != nullptr ? attention->dropout : latent->dropout;
    if (common && *common != dropout) return 0.0;
    common = dropout;
  }
  return common.value_or(0.0);
}

/// Parts of layers that only a few families have, so that the others need not ask for them.
void extra_reasons(const spec::ModelSpec& spec, Reasons& reasons) {
  for (size_t i = 0; i < spec.layers.size(); ++i) {
    const spec::LayerSpec& layer = spec.layers[i];
    if (layer.per_layer_input) reasons.add_layer(i, "an input from a per-layer embedding");
    if (std::holds_alternative<spec::HybridMlpSpec>(layer.mlp)) {
      reasons.add_layer(i, "a dense MLP beside the experts");
    }
    if (const spec::MoeSpec* moe = spec::moe_of(layer)) {
      const spec::RouterSpec& router = moe->router;
      if (router.input_norm || router.input_weight || router.input_scale != 1.0) {
        reasons.add_layer(i, "a norm or factor on the router's input");
      }
      if (router.expert_scale) reasons.add_layer(i, "learned factors of experts");
    }
    const spec::AttentionSpec* attention = spec::attention_of(layer);
    if (attention == nullptr) continue;
    if (attention->v_norm) reasons.add_layer(i, "a norm of value heads");
    if (attention->shared_key_value) reasons.add_layer(i, "one projection for keys and values");
    if (attention->kv_source) reasons.add_layer(i, "keys and values of another layer");
    if (attention->bidirectional_spans) reasons.add_layer(i, "attention within images");
  }
}

[[noreturn]] void throw_reasons(const Family& family, const std::vector<std::string>& reasons) {
  throw UnsupportedError(
      fmt::format("[export] family {} = cannot hold {}", family.name, join(reasons, "; ")));
}

void check_round_trip(const Family& family, const spec::ModelSpec& spec, const Json& config) {
  const ReadConfig back = read_config(family, config, "exported config.json");
  if (canonical_spec(back.spec) == canonical_spec(spec)) return;
  throw InternalError(fmt::format(
      "[export] config.json of family {} = another model than the one exported", family.name));
}

// Without what only training looks at, which stands in no family's config.

void canonicalise(spec::MoeSpec& moe) {
  moe.router.losses.clear();
  moe.router.balance_choices = false;
  moe.router.z_loss = 0;
  moe.router.bias_update_rate = spec::RouterSpec{}.bias_update_rate;
  moe.router.best_of_group =
      moe.router.num_groups > 1 ? std::optional<int64_t>(moe.best_of_group()) : std::nullopt;
}

void canonicalise(spec::AttentionSpec& attention) {
  attention.gate = {.kind = attention.gate.kind};
  attention.dropout = 0.0;
  if (attention.rope) attention.rope = canonical_rope(*attention.rope);
  if (is_default_scale(attention.scale, attention.head_dim)) {
    attention.scale = default_scale(attention.head_dim);
  }
}

void canonicalise(spec::GatedDeltaNetSpec&) {}

void canonicalise(spec::LatentAttentionSpec& mixer) {
  mixer.dropout = 0.0;
  if (mixer.rope) mixer.rope = canonical_rope(*mixer.rope);
  spec::LatentAttentionSpec derived = mixer;
  derived.scale.reset();
  if (spec::latent_scale(mixer) == spec::latent_scale(derived)) mixer.scale.reset();
  if (!mixer.indexer) return;
  mixer.indexer->loss = 0.0;
  mixer.indexer->loss_keys = spec::IndexLossKeys::kVisible;
}

void make_canonical(spec::LayerSpec& layer) {
  layer.block.clear();
  auto* hybrid = std::get_if<spec::HybridMlpSpec>(&layer.mlp);
  auto* moe = hybrid != nullptr ? &hybrid->routed : std::get_if<spec::MoeSpec>(&layer.mlp);
  if (moe != nullptr) canonicalise(*moe);
  std::visit([](auto& mixer) { canonicalise(mixer); }, layer.mixer);
}

}  // namespace

std::string Family::disk_name(const std::string& name) const {
  if (!name.starts_with(kModelScope)) return name;
  return std::string(model_scope) + name.substr(kModelScope.size());
}

const Family& find_family(std::string_view model_type) {
  std::vector<std::string> names;
  for (const Family* family : families()) {
    if (family->name == model_type) return *family;
    names.emplace_back(family->name);
  }
  throw UnsupportedError(fmt::format("[family] model_type = \"{}\", allowed {}",
                                     shorten(model_type), join(names, " | ")));
}

std::vector<std::string> reasons_against(const Family& family, const spec::ModelSpec& spec) {
  if (family.write == nullptr) {
    return {
        fmt::format("this model: the family is read only, for its parts besides text are not "
                    "kept; allowed --to {}_text",
                    family.name)};
  }
  Reasons reasons;
  if (!family.knows.layer_extras) extra_reasons(spec, reasons);
  reasons.add_if(!family.knows.mtp && spec.mtp, "multi-token prediction");
  for (size_t i = 0; i < block_count(spec); ++i) {
    const spec::LayerSpec& layer = spec::block_at(spec, static_cast<int64_t>(i));
    if (!family.knows.experts && spec::moe_of(layer) != nullptr) {
      reasons.add_layer(i, "a mixture of experts");
    }
    if (!family.knows.linear_attention && spec::delta_net_of(layer) != nullptr) {
      reasons.add_layer(i, "Gated DeltaNet");
    }
    if (!family.knows.latent_attention && spec::latent_of(spec.layers[i]) != nullptr) {
      reasons.add_layer(i, "latent attention");
    }
    if (!family.knows.attention && spec::attention_of(spec.layers[i]) != nullptr) {
      reasons.add_layer(i, "grouped-query attention");
    }
  }
  const auto lines = reasons.lines();
  return lines.empty() ? family.inexpressible(spec) : lines;
}

ReadConfig read_config(const Family& family, const Json& config, const std::string& file) {
  ConfigReader reader(config, file);
  ReadConfig result;
  result.spec = family.read(reader);
  reader.throw_if_any();
  spec::validate(result.spec);
  const auto& read = reader.read_keys();
  result.read_keys.assign(read.begin(), read.end());
  for (const std::string& key : reader.unread_keys()) {
    if (std::ranges::find(kInertKeys, key) == kInertKeys.end()) result.unknown_keys.push_back(key);
  }
  return result;
}

Json export_config(const Family& family, const spec::ModelSpec& spec, const ExportHints& hints) {
  const std::string dtype = dtype_key(hints.original);
  std::optional<ReadConfig> original;
  if (family.write == nullptr) throw_reasons(family, reasons_against(family, spec));
  if (hints.original != nullptr) original = read_config(family, *hints.original, "config.json");
  // A config may promise multi-token prediction whose tensors were never saved.
  if (original && !spec.mtp) original->spec.mtp.reset();
  if (original && canonical_spec(original->spec) == canonical_spec(spec)) {
    Json result = *hints.original;
    result.erase("quantization_config");  // an export is not quantised
    if (result.contains("text_config") && result["text_config"].is_object()) {
      result["text_config"].erase("quantization_config");
    }
    result[dtype] = hints.dtype;
    return result;
  }
  if (const auto reasons = reasons_against(family, spec); !reasons.empty()) {
    throw_reasons(family, reasons);
  }
  Json generated = {{"architectures", Json::array({std::string(family.architecture)})},
                    {"model_type", std::string(family.name)}};
  const Json model = family.write(spec);
  for (const auto& [key, value] : model.items()) generated[key] = value;
  const double dropout = common_dropout(spec);
  if (dropout > 0 && &family != &headway_family()) generated["attention_dropout"] = dropout;
  for (const char* key : {"bos_token_id", "eos_token_id", "pad_token_id"}) {
    if (hints.token_ids.contains(key) && !generated.contains(key))
      generated[key] = hints.token_ids[key];
  }
  generated[dtype] = hints.dtype;
  const Json result = original ? merge(*hints.original, *original, generated) : generated;
  check_round_trip(family, spec, result);
  return result;
}

spec::ModelSpec canonical_spec(spec::ModelSpec spec) {
  spec.init = {};
  spec.rope_per_layer = false;
  spec.rope_precision = spec::RopePrecision::kFloat32;
  for (spec::LayerSpec& layer : spec.layers) make_canonical(layer);
  if (spec.mtp) {
    for (spec::LayerSpec& layer : spec.mtp->layers) make_canonical(layer);
    spec.mtp->loss_scale = spec::MtpSpec{}.loss_scale;
    spec.mtp->detach = false;
  }
  return spec;
}

}  // namespace headway::io
