// The words for every feature a layer can have.
// Not for: layout of the table.
#include "headway/spec/layer_words.h"

#include <fmt/format.h>

#include "headway/base/text_util.h"
#include "headway/spec/spec_fields.h"

namespace headway::spec {
namespace {

std::string rope_words(const std::optional<RopeSpec>& rope) {
  if (!rope) return "none";
  std::string text = format_double(rope->base);
  if (rope->fraction != 1.0) text += " x" + format_double(rope->fraction);
  if (rope->kind != RopeKind::kDefault) {
    text += fmt::format(" {}", enum_name(rope->kind));
    if (rope->factor != 1.0) text += ":" + format_double(rope->factor);
  }
  if (rope->layout == RopeLayout::kInterleaved) text += " interleaved";
  if (rope->sections) {
    const auto& axes = *rope->sections;
    text += fmt::format(" thw:{}/{}/{}", axes[0], axes[1], axes[2]);
  }
  return text;
}

std::string mixer_words(const AttentionSpec& attention) {
  std::string text = "attention";
  if (attention.q_norm || attention.k_norm) {
    text += attention.qk_norm_across_heads ? " qk-norm:all-heads" : " qk-norm";
  }
  if (attention.v_norm) text += " v-norm";
  if (attention.shared_key_value) text += " k=v";
  if (attention.bidirectional_spans) text += " spans";
  if (attention.logit_softcap) text += " cap " + format_double(*attention.logit_softcap);
  if (attention.sinks != SinkKind::kNone)
    text += fmt::format(" sinks:{}", enum_name(attention.sinks));
  if (attention.dropout > 0) text += " dropout " + format_double(attention.dropout);
  if (attention.qkv_bias || attention.output_bias) text += " bias";
  return text;
}

std::string kv_source_words(const AttentionSpec& attention) {
  return attention.kv_source ? "of " + std::to_string(*attention.kv_source) : "own";
}

void add_mixer(const AttentionSpec& attention, LayerWords& words) {
  words.mixer = mixer_words(attention);
  words.heads = std::to_string(attention.num_heads);
  if (attention.num_kv_heads != attention.num_heads)
    words.heads += ":" + std::to_string(attention.num_kv_heads);
  words.head_dim = std::to_string(attention.head_dim);
  if (attention.v_head_dim != attention.head_dim)
    words.head_dim += "/" + std::to_string(attention.v_head_dim);
  words.window = attention.window ? format_count(*attention.window) : "all";
  if (attention.mask == MaskKind::kNone) {
    words.window += "+" + (attention.window_ahead ? format_count(*attention.window_ahead) : "all");
  }
  words.rope = rope_words(attention.rope);
  words.gate = enum_name(attention.gate.kind);
  words.kv_source = kv_source_words(attention);
}

void add_mixer(const GatedDeltaNetSpec& mixer, LayerWords& words) {
  words.mixer = fmt::format("gated_delta_net conv {}", mixer.conv_size);
  if (mixer.conv_bias) words.mixer += " bias";
  if (mixer.conv_activation != Activation::kSilu)
    words.mixer += fmt::format(" {}", enum_name(mixer.conv_activation));
  if (mixer.negative_eigenvalues) words.mixer += " beta 2";
  if (mixer.decay_rank) words.mixer += fmt::format(" channel decay {}", *mixer.decay_rank);
  words.heads = std::to_string(mixer.num_value_heads);
  if (mixer.num_key_heads != mixer.num_value_heads)
    words.heads += ":" + std::to_string(mixer.num_key_heads);
  words.head_dim = std::to_string(mixer.key_head_dim);
  if (mixer.value_head_dim != mixer.key_head_dim)
    words.head_dim += "/" + std::to_string(mixer.value_head_dim);
  words.window = "all";
  words.rope = "none";
  words.gate = enum_name(mixer.gate);
  if (mixer.gate_rank) words.gate += fmt::format(" {}", *mixer.gate_rank);
  words.kv_source = "own";
}

std::string mixer_words(const LatentAttentionSpec& mixer) {
  std::string text = fmt::format("latent_attention {}", mixer.kv_lora_rank);
  if (mixer.q_lora_rank) text += fmt::format(" q:{}", *mixer.q_lora_rank);
  if (mixer.indexer) {
    const IndexerSpec& indexer = *mixer.indexer;
    text += fmt::format(" top {} of {}x{}", format_count(indexer.top_k), indexer.num_heads,
                        indexer.head_dim);
    if (indexer.hadamard) text += " hadamard";
    if (indexer.precision == IndexPrecision::kFp8) text += " fp8";
    if (indexer.loss > 0) text += " index-loss " + format_double(indexer.loss);
  }
  if (mixer.shared_choice) text += " shared choice";
  if (mixer.dropout > 0) text += " dropout " + format_double(mixer.dropout);
  if (mixer.latent_bias || mixer.output_bias) text += " bias";
  return text;
}

void add_mixer(const LatentAttentionSpec& mixer, LayerWords& words) {
  words.mixer = mixer_words(mixer);
  words.heads = std::to_string(mixer.num_heads);
  words.head_dim =
      fmt::format("{}+{}/{}", mixer.nope_head_dim, mixer.rope_head_dim, mixer.v_head_dim);
  words.window = "all";
  words.rope = rope_words(mixer.rope);
  words.gate = enum_name(GateKind::kNone);
  words.kv_source = "own";
}

std::string mlp_words(const DenseMlpSpec& mlp) {
  std::string text = fmt::format("{} {}{}", mlp.intermediate_size, enum_name(mlp.activation),
                                 mlp.gated ? " gated" : "");
  if (mlp.limit) text += " limit " + format_double(*mlp.limit);
  if (mlp.bias) text += " bias";
  return text;
}

std::string mlp_words(const MoeSpec& moe) {
  const RouterSpec& router = moe.router;
  std::string text =
      fmt::format("{} of {} x {} {}{} {}", moe.top_k, moe.num_experts, moe.intermediate_size,
                  enum_name(moe.activation), moe.gated ? " gated" : "", enum_name(router.score));
  if (!router.normalize) text += " raw";
  if (router.scale != 1.0) text += " x" + format_double(router.scale);
  if (router.num_groups > 1) {
    text += fmt::format(" groups {}:{}", router.kept_groups, router.num_groups);
  }
  if (router.input_norm || router.input_weight || router.input_scale != 1.0) text += " own-input";
  if (router.expert_scale) text += " expert-scale";
  if (router.sinkhorn) text += " sinkhorn";
  if (router.expert_bias) text += " balance-bias";
  for (const auto& loss : router.losses) text += fmt::format(" {}-loss", enum_name(loss.kind));
  if (router.z_loss > 0) text += " z-loss";
  if (moe.capacity) text += " capacity " + format_double(moe.capacity->factor);
  if (moe.latent_size) text += fmt::format(" latent {}", *moe.latent_size);
  if (moe.limit) {
    text += (moe.limit_input ? " input-limit " : " limit ") + format_double(*moe.limit);
  }
  if (moe.linear_offset != 0) text += " offset " + format_double(moe.linear_offset);
  if (moe.bias || router.bias) text += " bias";
  if (moe.weight_input) text += " weights-input";
  if (!moe.shared) return text;
  text +=
      fmt::format(" + shared {}{}", moe.shared->intermediate_size, moe.shared->gate ? " gate" : "");
  if (moe.shared->limit) text += " limit " + format_double(*moe.shared->limit);
  return text;
}

std::string mlp_words(const HybridMlpSpec& hybrid) {
  return mlp_words(hybrid.dense) + " || " + mlp_words(hybrid.routed);
}

std::string norm_words(const LayerSpec& layer) {
  const bool before = layer.pre_mixer_norm || layer.pre_mlp_norm;
  const bool after = layer.post_mixer_norm || layer.post_mlp_norm;
  const auto& norm = layer.pre_mixer_norm ? layer.pre_mixer_norm : layer.post_mixer_norm;
  std::string text = before && after ? "sandwich" : before ? "pre" : after ? "post" : "none";
  if (norm) {
    text += fmt::format(" {}", enum_name(norm->kind));
    if (norm->weight != NormWeight::kPlain) text += fmt::format(" {}", enum_name(norm->weight));
  }
  if (layer.per_layer_input) text += " per-layer-input";
  if (layer.layer_scalar) text += " scalar";
  return text;
}

Json mixer_json(const GatedDeltaNetSpec& mixer) {
  Json row = write_fields(mixer);
  row["kv_source"] = "own";
  return row;
}

Json mixer_json(const LatentAttentionSpec& mixer) {
  Json row = write_fields(mixer);
  row["kv_source"] = "own";
  return row;
}

Json mixer_json(const AttentionSpec& attention) {
  Json row = write_fields(attention);
  row["gate"] = enum_name(attention.gate.kind);
  if (!attention.kv_source) row["kv_source"] = "own";
  return row;
}

}  // namespace

LayerWords layer_words(const LayerSpec& layer) {
  LayerWords words;
  std::visit([&](const auto& mixer) { add_mixer(mixer, words); }, layer.mixer);
  std::visit([&](const auto& mlp) { words.mlp = mlp_words(mlp); }, layer.mlp);
  words.norms = norm_words(layer);
  return words;
}

Json layer_json(const LayerSpec& layer) {
  Json row = {{"block", layer.block},
              {"mixer", VariantNames<MixerSpec>::kNames[layer.mixer.index()]}};
  std::visit([&](const auto& mixer) { row.update(mixer_json(mixer)); }, layer.mixer);
  Json mlp = {{"kind", VariantNames<MlpSpec>::kNames[layer.mlp.index()]}};
  std::visit([&](const auto& held) { mlp.update(write_fields(held)); }, layer.mlp);
  row["mlp"] = std::move(mlp);
  row["norms"] = norm_words(layer);
  row["per_layer_input"] = layer.per_layer_input.has_value();
  row["layer_scalar"] = layer.layer_scalar;
  return row;
}

}  // namespace headway::spec
