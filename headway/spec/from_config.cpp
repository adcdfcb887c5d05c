// What a block leaves open, filled in for each layer.
// Not for: checks; config/check_model.cpp has made them before anything is derived.
#include "headway/spec/from_config.h"

#include <cmath>

#include <fmt/format.h>

#include "headway/base/error.h"
#include "headway/base/fields.h"
#include "headway/base/problems.h"
#include "headway/config/load.h"
#include "headway/config/stack.h"
#include "headway/spec/kv_sharing.h"
#include "headway/spec/megatron.h"

namespace headway::spec {
namespace {

std::optional<NormSpec> head_norm(config::HeadNorm kind, NormSpec norm) {
  switch (kind) {
    case config::HeadNorm::kOff:
      return std::nullopt;
    case config::HeadNorm::kFixed:
      norm.weight = NormWeight::kNone;
      return norm;
    case config::HeadNorm::kLearned:
      return norm;
  }
  throw InternalError("[spec] head norm is not in the enum");
}

AttentionSpec resolve_attention(const config::AttentionConfig& given, const NormSpec& norm,
                                int64_t hidden_size) {
  AttentionSpec spec;
  spec.num_heads = given.num_heads;
  spec.num_kv_heads = given.num_kv_heads.value_or(given.num_heads);
  spec.head_dim = given.head_dim.value_or(hidden_size / given.num_heads);
  spec.v_head_dim = given.v_head_dim.value_or(spec.head_dim);
  spec.rope = given.rope;
  spec.mask = given.mask;
  spec.window = given.window;
  spec.window_ahead = given.window_ahead;
  spec.scale = given.scale.value_or(1.0 / std::sqrt(static_cast<double>(spec.head_dim)));
  spec.logit_softcap = given.logit_softcap;
  spec.sinks = given.sinks;
  spec.dropout = given.dropout;
  spec.q_norm = head_norm(config::q_norm_of(given), norm);
  spec.k_norm = head_norm(config::k_norm_of(given), norm);
  spec.v_norm = head_norm(given.v_norm, norm);
  spec.shared_key_value = given.shared_key_value;
  spec.bidirectional_spans = given.bidirectional_spans;
  spec.qk_norm_across_heads = given.qk_norm_across_heads;
  spec.gate = given.gate;
  spec.qkv_bias = given.qkv_bias;
  spec.gate_bias = config::gate_bias_of(given);
  spec.output_bias = given.output_bias;
  return spec;
}

MlpSpec resolve_mlp(const config::BlockConfig& block, const NormSpec& norm) {
  if (!block.hybrid) return block.moe ? MlpSpec(*block.moe) : MlpSpec(block.mlp.value());
  const auto branch_norm = [&norm](bool present) {
    return present ? std::optional<NormSpec>(norm) : std::nullopt;
  };
  HybridMlpSpec hybrid;
  hybrid.dense = block.mlp.value();
  hybrid.routed = block.moe.value();
  hybrid.dense_pre_norm = branch_norm(block.hybrid->dense_pre_norm);
  hybrid.dense_post_norm = branch_norm(block.hybrid->dense_post_norm);
  hybrid.routed_pre_norm = branch_norm(block.hybrid->routed_pre_norm);
  hybrid.routed_post_norm = branch_norm(block.hybrid->routed_post_norm);
  return hybrid;
}

/// By placement, unless the block says it of the single norm.
void resolve_norms(const config::NormsOverride& given, config::NormPlacement placement,
                   const NormSpec& norm, LayerSpec& layer) {
  const bool sandwich = given.placement.value_or(placement) == config::NormPlacement::kSandwich;
  if (given.pre_mixer.value_or(true)) layer.pre_mixer_norm = norm;
  if (given.post_mixer.value_or(sandwich)) layer.post_mixer_norm = norm;
  if (given.pre_mlp.value_or(true)) layer.pre_mlp_norm = norm;
  if (given.post_mlp.value_or(sandwich)) layer.post_mlp_norm = norm;
}

LayerSpec resolve_block(const std::string& name, const config::ModelConfig& model) {
  const config::BlockConfig& block = model.blocks.at(name);
  const NormSpec norm = config::norm_of(model.norms, block.norms);
  LayerSpec layer;
  layer.block = name;
  if (block.gated_delta_net) {
    layer.mixer = *block.gated_delta_net;
  } else if (block.latent_attention) {
    layer.mixer = *block.latent_attention;
  } else {
    layer.mixer = resolve_attention(block.attention.value(), norm, model.hidden_size.value());
  }
  layer.mlp = resolve_mlp(block, norm);
  resolve_norms(block.norms, model.norms.placement, norm, layer);
  if (model.per_layer_embedding && block.per_layer_input.value_or(true)) {
    layer.per_layer_input = PerLayerInputSpec{model.per_layer_embedding->activation, norm};
  }
  layer.layer_scalar = block.layer_scalar;
  return layer;
}

void resolve_mtp(const config::ModelConfig& model, ModelSpec& spec) {
  if (!model.mtp) return;
  MtpSpec& mtp = spec.mtp.emplace();
  for (const std::string& name : config::mtp_blocks(model)) {
    mtp.layers.push_back(resolve_block(name, model));
    mtp.layers.back().per_layer_input.reset();  // the table has channels for the stack alone
  }
  mtp.shared_weights = model.mtp->shared_weights;
  mtp.hidden = model.mtp->hidden;
  mtp.embedding_norm = mtp.hidden_norm = mtp.final_norm = config::norm_of(model.norms, {});
  mtp.own_head = model.mtp->own_head;
  mtp.detach = model.mtp->detach;
  mtp.loss_scale = model.mtp->loss_scale;
}

/// One base a layer of the stack, then one a depth of multi-token prediction.
void set_bases(const std::vector<std::optional<double>>& bases, ModelSpec& spec) {
  spec.rope_per_layer = true;
  const size_t stack = spec.layers.size();
  for (size_t i = 0; i < bases.size(); ++i) {
    LayerSpec& layer = i < stack ? spec.layers[i] : spec.mtp.value().layers.at(i - stack);
    auto* attention = std::get_if<AttentionSpec>(&layer.mixer);
    if (attention != nullptr && attention->rope) attention->rope->base = bases[i].value();
  }
}

void resolve_per_layer_embedding(const config::ModelConfig& model, ModelSpec& spec) {
  if (!model.per_layer_embedding) return;
  const config::PerLayerEmbeddingConfig& given = *model.per_layer_embedding;
  PerLayerEmbeddingSpec& resolved = spec.per_layer_embedding.emplace();
  resolved.vocab_size = given.vocab_size.value_or(spec.embedding.vocab_size);
  resolved.size = given.size;
  resolved.scale = given.scale.value_or(std::sqrt(static_cast<double>(given.size)));
  resolved.scale_rounding = model.embedding_scale_rounding;
  resolved.context_scale = 1.0 / std::sqrt(static_cast<double>(spec.hidden_size));
  resolved.mix_scale = std::sqrt(0.5);
  resolved.norm = config::norm_of(model.norms, {});
  resolved.padding_id = model.padding_id;
}

void resolve_kv_sources(const config::ModelConfig& model, ModelSpec& spec) {
  share_last_layers(spec, model.num_kv_shared_layers);
  if (!model.kv_source_per_layer) return;
  for (size_t i = 0; i < spec.layers.size(); ++i) {
    if (const auto& source = (*model.kv_source_per_layer)[i]) read_kv_of(spec.layers[i], *source);
  }
}

void check_vocab(const config::ModelConfig& model, int64_t vocab_size, Problems& problems) {
  if (model.vocab_size && *model.vocab_size < vocab_size) {
    problems.add_value(
        "model.vocab_size", std::to_string(*model.vocab_size),
        fmt::format("at least the size of tokenizer {} (= {})", model.tokenizer, vocab_size));
  }
}

/// Beside Megatron arguments only the tokenizer and its padding are ours to say.
ModelSpec resolve_megatron(const config::ModelConfig& model, int64_t vocab_size) {
  config::ModelConfig rest = model;
  const config::ModelConfig preset;
  rest.tokenizer = preset.tokenizer;
  rest.vocab_size.reset();
  rest.megatron = nullptr;
  Problems problems;
  for (const std::string& line : json_diff(write_fields(preset), write_fields(rest))) {
    problems.add("model", fmt::format("{}: not allowed beside megatron", line));
  }
  problems.throw_if_any();
  return from_megatron(model.megatron, model.vocab_size.value_or(vocab_size));
}

}  // namespace

ModelSpec resolve(const config::ModelConfig& model, int64_t vocab_size) {
  Problems problems;
  config::check_model(model, "model", problems);
  check_vocab(model, vocab_size, problems);
  problems.throw_if_any();
  if (model.hf) {
    throw ConfigError(fmt::format(
        "model.hf = {}: allowed a model described by blocks; a Hugging Face folder is read "
        "by io",
        *model.hf));
  }
  if (!model.megatron.is_null()) return resolve_megatron(model, vocab_size);
  ModelSpec spec;
  spec.hidden_size = model.hidden_size.value();
  spec.max_positions = model.max_positions;
  spec.embedding.vocab_size = model.vocab_size.value_or(vocab_size);
  spec.embedding.scale = model.embedding_scale;
  spec.embedding.scale_rounding = model.embedding_scale_rounding;
  spec.embedding.padding_id = model.padding_id;
  resolve_per_layer_embedding(model, spec);
  for (const std::string& name : config::layer_blocks(model))
    spec.layers.push_back(resolve_block(name, model));
  spec.head.tied = model.tie_embeddings;
  spec.head.softcap = model.final_softcap;
  spec.head.final_norm = config::norm_of(model.norms, {});
  spec.init = model.init;
  resolve_mtp(model, spec);
  if (model.rotary_base_per_layer) set_bases(*model.rotary_base_per_layer, spec);
  resolve_kv_sources(model, spec);
  validate(spec);
  return spec;
}

}  // namespace headway::spec
