// What no model may be: ranges of every field, and the rules that tie fields of one layer together.
#include <algorithm>

#include <fmt/format.h>

#include "headway/config/part_checks.h"
#include "headway/spec/kv_sharing.h"
#include "headway/spec/latent_attention.h"
#include "headway/spec/spec_fields.h"

namespace headway::spec {
namespace {

void check_optional_norm(const std::optional<NormSpec>& norm, const std::string& path,
                         Problems& problems) {
  if (norm) config::check_norm(*norm, path, problems);
}

void check_mixer(const AttentionSpec& attention, const std::string& path, Problems& problems) {
  if (attention.rope && !problems.touches(path + ".head_dim")) {
    config::check_rope(*attention.rope, attention.head_dim, path + ".rope", problems);
  }
  config::check_mask(attention.mask, attention.window_ahead, path, problems);
  config::check_gate(attention.gate, attention.gate_bias, path, problems);
  if (attention.qk_norm_across_heads && !attention.q_norm && !attention.k_norm) {
    problems.add_value(path + ".qk_norm_across_heads", "true", "only with q_norm or k_norm");
  }
  check_optional_norm(attention.q_norm, path + ".q_norm", problems);
  check_optional_norm(attention.k_norm, path + ".k_norm", problems);
  check_optional_norm(attention.v_norm, path + ".v_norm", problems);
  config::check_shared_key_value(attention.shared_key_value, attention.head_dim,
                                 attention.v_head_dim, path, problems);
  config::check_spans(attention.bidirectional_spans, attention.mask, path, problems);
}

void check_mixer(const GatedDeltaNetSpec& mixer, const std::string& path, Problems& problems) {
  config::check_gated_delta_net(mixer, path, problems);
}

void check_mixer(const LatentAttentionSpec& mixer, const std::string& path, Problems& problems) {
  config::check_latent_attention(mixer, path, problems);
}

void check_mlp_kind(const DenseMlpSpec& mlp, const std::string& path, Problems& problems) {
  config::check_mlp(mlp, path, problems);
}

void check_mlp_kind(const MoeSpec& moe, const std::string& path, Problems& problems) {
  config::check_moe(moe, path, problems);
}

void check_mlp_kind(const HybridMlpSpec& hybrid, const std::string& path, Problems& problems) {
  config::check_mlp(hybrid.dense, path + ".dense", problems);
  config::check_moe(hybrid.routed, path + ".routed", problems);
  check_optional_norm(hybrid.dense_pre_norm, path + ".dense_pre_norm", problems);
  check_optional_norm(hybrid.dense_post_norm, path + ".dense_post_norm", problems);
  check_optional_norm(hybrid.routed_pre_norm, path + ".routed_pre_norm", problems);
  check_optional_norm(hybrid.routed_post_norm, path + ".routed_post_norm", problems);
}

void check_layer(const LayerSpec& layer, const std::string& path, Problems& problems) {
  const std::string mixer(VariantNames<MixerSpec>::kNames[layer.mixer.index()]);
  const std::string mlp(VariantNames<MlpSpec>::kNames[layer.mlp.index()]);
  std::visit([&](const auto& held) { check_mixer(held, path + ".mixer." + mixer, problems); },
             layer.mixer);
  std::visit([&](const auto& held) { check_mlp_kind(held, path + ".mlp." + mlp, problems); },
             layer.mlp);
  check_optional_norm(layer.pre_mixer_norm, path + ".pre_mixer_norm", problems);
  check_optional_norm(layer.post_mixer_norm, path + ".post_mixer_norm", problems);
  check_optional_norm(layer.pre_mlp_norm, path + ".pre_mlp_norm", problems);
  check_optional_norm(layer.post_mlp_norm, path + ".post_mlp_norm", problems);
  if (layer.per_layer_input) {
    check_optional_norm(layer.per_layer_input->norm, path + ".per_layer_input.norm", problems);
  }
}

/// A row without gradient is one of the table's.
void check_padding(const std::optional<int64_t>& padding, int64_t rows, const std::string& path,
                   Problems& problems) {
  if (!padding || *padding < rows || problems.touches(path)) return;
  problems.add_value(path + ".padding_id", std::to_string(*padding),
                     fmt::format("an id below vocab_size (= {})", rows));
}

/// The table and the layers that read it come together.
void check_per_layer_embedding(const ModelSpec& spec, Problems& problems) {
  const std::string path = "model.per_layer_embedding";
  const int64_t layers = per_layer_count(spec);
  if (!spec.per_layer_embedding) {
    if (layers > 0) problems.add(path, "missing; layers with per_layer_input need one");
    return;
  }
  if (layers == 0) problems.add(path, "no layer has a per_layer_input; allowed at least one");
  const PerLayerEmbeddingSpec& given = *spec.per_layer_embedding;
  config::check_norm(given.norm, path + ".norm", problems);
  check_padding(given.padding_id, given.vocab_size, path, problems);
  const bool fits = given.norm.kind == NormKind::kRms;
  if (!fits) problems.add_value(path + ".norm.kind", "layer", "rms");
}

void check_mtp(const MtpSpec& mtp, Problems& problems) {
  const std::string path = "model.mtp";
  for (size_t i = 0; i < mtp.layers.size(); ++i) {
    const std::string place = index_path(path + ".layers", i);
    check_layer(mtp.layers[i], place, problems);
    const LatentAttentionSpec* latent = latent_of(mtp.layers[i]);
    if (latent != nullptr && latent->shared_choice) {
      problems.add_value(place + ".mixer.latent_attention.shared_choice", "true",
                         "false behind the stack, where no choice is handed on");
    }
    if (mtp.shared_weights && mtp.layers[i] != mtp.layers[0]) {
      problems.add(place, "differs from layers[0]; allowed equal layers with shared_weights");
    }
  }
  check_optional_norm(mtp.embedding_norm, path + ".embedding_norm", problems);
  check_optional_norm(mtp.hidden_norm, path + ".hidden_norm", problems);
  check_optional_norm(mtp.final_norm, path + ".final_norm", problems);
  if (mtp.depths() > config::kMaxMtpDepths) {
    problems.add_value(path + ".layers", fmt::format("{} depths", mtp.depths()),
                       fmt::format("at most {}", config::kMaxMtpDepths));
  }
}

}  // namespace

const AttentionSpec* attention_of(const LayerSpec& layer) {
  return std::get_if<AttentionSpec>(&layer.mixer);
}

const GatedDeltaNetSpec* delta_net_of(const LayerSpec& layer) {
  return std::get_if<GatedDeltaNetSpec>(&layer.mixer);
}

const LatentAttentionSpec* latent_of(const LayerSpec& layer) {
  return std::get_if<LatentAttentionSpec>(&layer.mixer);
}

RotatedHead rotated_head(const LayerSpec& layer) {
  const AttentionSpec* attention = attention_of(layer);
  if (attention != nullptr && attention->rope) return {&*attention->rope, attention->head_dim};
  const LatentAttentionSpec* latent = latent_of(layer);
  if (latent != nullptr && latent->rope) return {&*latent->rope, latent->rope_head_dim};
  return {};
}

std::optional<CachedRows> cached_rows(const LayerSpec& layer) {
  if (const AttentionSpec* attention = attention_of(layer)) {
    return CachedRows{attention->num_kv_heads, attention->head_dim, attention->v_head_dim,
                      attention->window};
  }
  if (const LatentAttentionSpec* latent = latent_of(layer)) {
    const LatentWidths widths(*latent);
    return CachedRows{1, widths.cached, widths.index_key, std::nullopt};
  }
  return std::nullopt;
}

const MoeSpec* moe_of(const LayerSpec& layer) {
  if (const auto* hybrid = std::get_if<HybridMlpSpec>(&layer.mlp)) return &hybrid->routed;
  return std::get_if<MoeSpec>(&layer.mlp);
}

const DenseMlpSpec* dense_of(const LayerSpec& layer) {
  if (const auto* hybrid = std::get_if<HybridMlpSpec>(&layer.mlp)) return &hybrid->dense;
  return std::get_if<DenseMlpSpec>(&layer.mlp);
}

int64_t per_layer_count(const ModelSpec& spec) {
  return std::count_if(spec.layers.begin(), spec.layers.end(),
                       [](const LayerSpec& layer) { return layer.per_layer_input.has_value(); });
}

int64_t num_blocks(const ModelSpec& spec) {
  return static_cast<int64_t>(spec.layers.size()) + (spec.mtp ? spec.mtp->weight_sets() : 0);
}

const LayerSpec& block_at(const ModelSpec& spec, int64_t index) {
  const auto stack = static_cast<int64_t>(spec.layers.size());
  if (index < stack) return spec.layers.at(static_cast<size_t>(index));
  return spec.mtp.value().layers.at(static_cast<size_t>(index - stack));
}

std::string block_scope(const ModelSpec& spec, int64_t index) {
  const auto stack = static_cast<int64_t>(spec.layers.size());
  return index < stack ? "layers." + std::to_string(index) + "."
                       : "mtp.layers." + std::to_string(index - stack) + ".block.";
}

std::optional<DenseMlpSpec> shared_mlp(const MoeSpec& moe) {
  if (!moe.shared) return std::nullopt;
  DenseMlpSpec mlp;
  mlp.intermediate_size = moe.shared->intermediate_size;
  mlp.activation = moe.activation;
  mlp.gated = moe.gated;
  mlp.limit = moe.shared->limit;
  return mlp;
}

void validate(const ModelSpec& spec) {
  Problems problems;
  check_fields(spec, "model", problems);
  bool rotates = false;
  for (size_t i = 0; i < spec.layers.size(); ++i) {
    check_layer(spec.layers[i], index_path("model.layers", i), problems);
    rotates = rotates || rotated_head(spec.layers[i]).rope != nullptr;
  }
  check_shared_choices(spec, problems);
  check_optional_norm(spec.head.final_norm, "model.head.final_norm", problems);
  if (spec.mtp) check_mtp(*spec.mtp, problems);
  if (spec.layers.size() > static_cast<size_t>(config::kMaxLayers)) {
    problems.add_value("model.layers", fmt::format("{} layers", spec.layers.size()),
                       fmt::format("at most {}", config::kMaxLayers));
  }
  if (spec.rope_per_layer && !rotates && !spec.layers.empty()) {
    problems.add("model.rope_per_layer", config::no_base_text(0, spec.layers[0].block));
  }
  check_padding(spec.embedding.padding_id, spec.embedding.vocab_size, "model.embedding", problems);
  check_per_layer_embedding(spec, problems);
  check_kv_sharing(spec, problems);
  problems.throw_if_any();
}

}  // namespace headway::spec
