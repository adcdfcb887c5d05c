// See latent_family.h. Not for: keys of single families.
#include "headway/io/hf/latent_family.h"

#include <algorithm>

#include <fmt/format.h>

#include "headway/base/text_util.h"
#include "headway/io/hf/moe_family.h"
#include "headway/io/hf/mtp_family.h"
#include "headway/io/hf/plain_decoder.h"

namespace headway::io {
namespace {

using spec::LatentAttentionSpec;
using spec::MoeSpec;

constexpr const char* kDense = "dense";
constexpr const char* kSparse = "sparse";
constexpr const char* kIndexed = "indexed_attention";
constexpr int64_t kBestOfGroup = 2;

IntegerRange width() { return {1, config::kMaxWidth}; }
IntegerRange channels() { return {1, config::kMaxHeadDim}; }
IntegerRange experts() { return {1, config::kMaxExperts}; }

spec::IndexerSpec read_indexer(ConfigReader& config, spec::RopeLayout layout) {
  spec::IndexerSpec indexer;
  indexer.num_heads = config.required_integer("index_n_heads", {1, config::kMaxHeads});
  indexer.head_dim = config.required_integer("index_head_dim", channels());
  indexer.top_k = config.required_integer("index_topk", {1, config::kMaxTokens});
  indexer.rope_layout = layout;
  return indexer;
}

LatentAttentionSpec read_mixer(ConfigReader& config, const LatentForm& form,
                               int64_t max_positions) {
  LatentAttentionSpec mixer;
  mixer.num_heads = config.required_integer("num_attention_heads", {1, config::kMaxHeads});
  const auto kv_heads = config.optional_integer("num_key_value_heads", {1, config::kMaxHeads});
  if (kv_heads && *kv_heads != mixer.num_heads) {
    config.problem("num_key_value_heads",
                   fmt::format("null or num_attention_heads (= {})", mixer.num_heads));
  }
  const bool required = form.needs_q_latent || !config.is_present("q_lora_rank");
  mixer.q_lora_rank = required ? config.required_integer("q_lora_rank", width())
                               : config.optional_integer("q_lora_rank", width());
  mixer.kv_lora_rank = config.required_integer("kv_lora_rank", width());
  mixer.nope_head_dim = config.required_integer("qk_nope_head_dim", channels());
  mixer.rope_head_dim = config.required_integer("qk_rope_head_dim", channels());
  mixer.v_head_dim = config.required_integer("v_head_dim", channels());
  for (const char* derived : {"head_dim", "qk_head_dim"}) config.mark(derived);
  mixer.rope = read_single_rope(config, max_positions);
  const bool pairs = !form.rope_interleave_key || config.boolean("rope_interleave", true);
  mixer.rope->layout = pairs ? spec::RopeLayout::kInterleaved : spec::RopeLayout::kHalf;
  mixer.latent_bias = mixer.output_bias = config.boolean("attention_bias", false);
  if (form.index_layout) mixer.indexer = read_indexer(config, *form.index_layout);
  return mixer;
}

MoeSpec read_moe(ConfigReader& config, const LatentForm& form, spec::Activation activation) {
  MoeSpec moe;
  const auto other = config.optional_integer("num_experts", experts());
  moe.num_experts = other.value_or(0);
  if (!other || config.has("n_routed_experts")) {
    moe.num_experts = config.required_integer("n_routed_experts", experts());
  }
  if (other && *other != moe.num_experts) {
    config.problem("num_experts",
                   fmt::format("the value of n_routed_experts (= {})", moe.num_experts));
  }
  moe.top_k = config.required_integer("num_experts_per_tok", experts());
  moe.intermediate_size = config.required_integer("moe_intermediate_size", width());
  moe.activation = activation;
  spec::RouterSpec& router = moe.router;
  router.score = spec::RouterScore::kSigmoid;
  router.expert_bias = true;
  router.normalize = config.boolean("norm_topk_prob", true);
  router.scale = config.number("routed_scaling_factor", 2.5);
  router.num_groups = config.integer("n_group", experts(), form.groups);
  router.kept_groups = config.integer("topk_group", experts(), form.kept_groups);
  if (router.num_groups > 1) router.best_of_group = kBestOfGroup;
  const int64_t shared = config.integer("n_shared_experts", experts(), 1);
  moe.shared = spec::SharedExpertSpec{.intermediate_size = shared * moe.intermediate_size};
  if (config.text("scoring_func", "sigmoid") != "sigmoid") {
    config.problem("scoring_func", "sigmoid");
  }
  if (config.text("topk_method", "noaux_tc") != "noaux_tc") {
    config.problem("topk_method", "noaux_tc");
  }
  return moe;
}

/// Which layers have experts.
std::vector<bool> read_sparse(ConfigReader& config, const LatentForm& form, size_t layers,
                              size_t extra) {
  const int64_t first = config.integer("first_k_dense_replace", {0, config::kMaxLayers}, 3);
  std::vector<bool> sparse(layers);
  for (size_t i = 0; i < layers; ++i) sparse[i] = static_cast<int64_t>(i) >= first;
  if (!form.index_layout) return sparse;
  const auto types = config.layer_texts("mlp_layer_types", layers, extra);
  for (size_t i = 0; types && i < types->size(); ++i) {
    const std::string& type = (*types)[i];
    if (type != kDense && type != kSparse) config.problem("mlp_layer_types", "dense | sparse");
    sparse[i] = type == kSparse;
  }
  if (const auto kinds = config.layer_texts("layer_types", layers, extra)) {
    const bool fit = std::ranges::all_of(*kinds, [](const auto& kind) { return kind == kIndexed; });
    if (!fit) config.problem("layer_types", fmt::format("{} in every layer", kIndexed));
  }
  return sparse;
}

const spec::DenseMlpSpec* first_dense(const spec::ModelSpec& spec) {
  for (const spec::LayerSpec& layer : spec.layers) {
    if (const auto* mlp = std::get_if<spec::DenseMlpSpec>(&layer.mlp)) return mlp;
  }
  return nullptr;
}

void indexer_reasons(size_t layer, const LatentAttentionSpec& mixer, const LatentForm& form,
                     Reasons& reasons) {
  const auto add_if = [&](bool condition, const std::string& feature) {
    if (condition) reasons.add_layer(layer, feature);
  };
  add_if(!form.index_layout && mixer.indexer, "an indexer");
  add_if(!form.shares_choices && mixer.shared_choice, "a choice of keys shared between layers");
  add_if(form.index_layout && !mixer.indexer && !mixer.shared_choice, "no indexer");
  if (!form.index_layout || !mixer.indexer) return;
  const spec::IndexerSpec& indexer = *mixer.indexer;
  add_if(indexer.rope_layout != *form.index_layout, "another rotary layout of the indexer");
  add_if(!indexer.relu, "index scores without relu");
  add_if(indexer.hadamard, "a Hadamard rotation in the indexer");
  add_if(indexer.precision != spec::IndexPrecision::kExact, "8-bit index scores");
  add_if(indexer.norm_eps != 1e-6, "another eps of the indexer's norm than 1e-6");
}

/// What must be alike in all layers.
LatentAttentionSpec common_part(LatentAttentionSpec mixer) {
  mixer.indexer.reset();
  mixer.shared_choice = false;
  mixer.dropout = 0.0;
  mixer.scale.reset();
  if (mixer.rope) mixer.rope = canonical_rope(*mixer.rope);
  return mixer;
}

void mixer_reasons(size_t layer, const LatentAttentionSpec& mixer, const LatentForm& form,
                   Reasons& reasons) {
  const auto add_if = [&](bool condition, const std::string& feature) {
    if (condition) reasons.add_layer(layer, feature);
  };
  LatentAttentionSpec derived = mixer;
  derived.scale.reset();
  add_if(spec::latent_scale(mixer) != spec::latent_scale(derived), "another attention scale");
  add_if(form.needs_q_latent && !mixer.q_lora_rank, "queries without a latent");
  add_if(!mixer.latent_norm || *mixer.latent_norm != spec::NormSpec{.eps = 1e-6},
         "latent norms other than RMS norms of eps 1e-6");
  add_if(mixer.latent_bias != mixer.output_bias,
         "a bias on only one of latents and output projection");
  add_if(!mixer.rope, "attention without rotary positions");
  if (mixer.rope) {
    add_if(mixer.rope->fraction != 1.0, "partial rotation");
    add_if(mixer.rope->sections.has_value(), "multimodal rotary sections");
    add_if(!form.rope_interleave_key && mixer.rope->layout != spec::RopeLayout::kInterleaved,
           "rotary halves (the family's pairs are interleaved)");
  }
  indexer_reasons(layer, mixer, form, reasons);
}

void mlp_reasons(const spec::ModelSpec& spec, const LatentForm& form, Reasons& reasons) {
  const MoeSpec* moe = first_moe(spec);
  const spec::DenseMlpSpec* dense = first_dense(spec);
  bool routed = false;
  for (size_t i = 0; i < spec.layers.size(); ++i) {
    const auto* mlp = std::get_if<spec::DenseMlpSpec>(&spec.layers[i].mlp);
    routed = routed || mlp == nullptr;
    if (mlp == nullptr) continue;
    if (mlp->bias) reasons.add_layer(i, "MLP biases");
    if (mlp->limit) reasons.add_layer(i, "a limit in the MLP");
    if (*mlp != *dense) reasons.add_layer(i, "another MLP than the first dense one");
    if (moe != nullptr && mlp->activation != moe->activation) {
      reasons.add_layer(i, "another activation than that of the experts");
    }
    if (routed && !form.index_layout) reasons.add_layer(i, "a dense MLP behind one with experts");
  }
  moe_reasons(spec,
              {.score = spec::RouterScore::kSigmoid,
               .expert_bias = true,
               .scale = true,
               .groups = true,
               .shared = true},
              reasons);
  if (moe == nullptr) return;
  const spec::RouterSpec& router = moe->router;
  reasons.add_if(router.num_groups > 1 && moe->best_of_group() != kBestOfGroup,
                 "group scores other than the sum of the best two");
  reasons.add_if(moe->shared && moe->shared->intermediate_size % moe->intermediate_size != 0,
                 "a shared expert whose width is no multiple of the routed ones'");
}

void mtp_reasons(const spec::ModelSpec& spec, const LatentForm& form, Reasons& reasons) {
  if (!spec.mtp) return;
  const bool routed = first_moe(spec) != nullptr;
  reasons.add_if(spec.mtp->shared_weights, "weights that depths of multi-token prediction share");
  reasons.add_if(spec.mtp->hidden != spec::MtpHidden::kNormed,
                 "multi-token prediction from residuals instead of normed states");
  reasons.add_if(spec.mtp->own_head != form.own_mtp_head,
                 form.own_mtp_head ? "multi-token prediction without heads of its own"
                                   : "heads of multi-token prediction");
  for (const spec::LayerSpec& layer : spec.mtp->layers) {
    reasons.add_if(
        (spec::moe_of(layer) != nullptr) != routed,
        routed ? "a next-token layer without experts" : "a next-token layer with experts");
  }
}

void write_moe(const spec::ModelSpec& spec, Json& json) {
  const MoeSpec* moe = first_moe(spec);
  if (moe == nullptr) return;
  json["n_routed_experts"] = moe->num_experts;
  json["num_experts_per_tok"] = moe->top_k;
  json["moe_intermediate_size"] = moe->intermediate_size;
  json["n_shared_experts"] = moe->shared->intermediate_size / moe->intermediate_size;
  json["norm_topk_prob"] = moe->router.normalize;
  json["routed_scaling_factor"] = moe->router.scale;
  json["n_group"] = moe->router.num_groups;
  json["topk_group"] = moe->router.kept_groups;
  json["scoring_func"] = "sigmoid";
  json["topk_method"] = "noaux_tc";
}

void write_layers(const spec::ModelSpec& spec, const LatentForm& form, Json& json) {
  Json types = Json::array();
  int64_t leading = 0;
  for (const spec::LayerSpec& layer : spec.layers) {
    const bool sparse = spec::moe_of(layer) != nullptr;
    if (!sparse && leading == static_cast<int64_t>(types.size())) ++leading;
    types.push_back(sparse ? kSparse : kDense);
  }
  json["first_k_dense_replace"] = leading;
  if (form.index_layout) json["mlp_layer_types"] = types;
}

}  // namespace

spec::ModelSpec read_latent_decoder(ConfigReader& config, const LatentForm& form) {
  spec::ModelSpec model;
  model.hidden_size = config.required_integer("hidden_size", width());
  model.embedding.vocab_size = config.required_integer("vocab_size", {1, config::kMaxVocab});
  model.max_positions =
      config.integer("max_position_embeddings", {1, config::kMaxTokens}, form.max_positions);
  const int64_t layers = config.required_integer("num_hidden_layers", {1, config::kMaxLayers});
  const int64_t extra = config.integer("num_nextn_predict_layers", {0, config::kMaxLayers}, 0);
  spec::LayerSpec layer;
  layer.block = "latent_attention";
  layer.mixer = read_mixer(config, form, model.max_positions);
  spec::DenseMlpSpec mlp;
  mlp.intermediate_size = config.required_integer("intermediate_size", width());
  mlp.activation = read_activation(config);
  layer.mlp = mlp;
  const spec::NormSpec norm{.eps = config.number("rms_norm_eps", form.norm_eps, 0.0)};
  layer.pre_mixer_norm = layer.pre_mlp_norm = model.head.final_norm = norm;
  model.embedding.padding_id = read_padding_id(config, model.embedding.vocab_size);
  read_model_flags(config, model);
  model.layers.assign(static_cast<size_t>(layers), layer);
  const auto next = static_cast<size_t>(extra);
  auto sparse = read_sparse(config, form, model.layers.size(), next);
  const bool routed = std::ranges::find(sparse, true) != sparse.end();
  sparse.resize(sparse.size() + next, routed);  // next-token layers have experts if any has
  model.layers.resize(model.layers.size() + next, layer);
  if (routed) {
    const MoeSpec moe = read_moe(config, form, mlp.activation);
    for (size_t i = 0; i < sparse.size(); ++i) {
      if (sparse[i]) model.layers[i].mlp = moe;
    }
  }
  split_mtp(model, next);
  if (model.mtp) model.mtp->own_head = form.own_mtp_head;
  return model;
}

void latent_reasons(const spec::ModelSpec& spec, const LatentForm& form, Reasons& reasons) {
  common_reasons(spec, spec::NormWeight::kPlain, reasons);
  const auto& first = std::get<LatentAttentionSpec>(spec.layers.front().mixer);
  const LatentAttentionSpec* indexer = nullptr;
  for (size_t i = 0; i < static_cast<size_t>(spec::num_blocks(spec)); ++i) {
    const auto& mixer =
        std::get<LatentAttentionSpec>(spec::block_at(spec, static_cast<int64_t>(i)).mixer);
    mixer_reasons(i, mixer, form, reasons);
    if (common_part(mixer) != common_part(first)) {
      reasons.add_layer(i, "another latent attention than layer 0");
    }
    if (!mixer.indexer) continue;
    if (indexer == nullptr) indexer = &mixer;
    const auto same = [](spec::IndexerSpec one) {
      one.loss = 0.0;
      one.loss_keys = spec::IndexLossKeys::kVisible;
      return one;
    };
    if (same(*mixer.indexer) != same(*indexer->indexer)) {
      reasons.add_layer(i, "another indexer than the first");
    }
  }
  mlp_reasons(spec, form, reasons);
  mtp_reasons(spec, form, reasons);
}

Json write_latent_decoder(const spec::ModelSpec& spec, const LatentForm& form) {
  const auto& mixer = std::get<LatentAttentionSpec>(spec.layers.front().mixer);
  const spec::DenseMlpSpec* dense = first_dense(spec);
  const MoeSpec* moe = first_moe(spec);
  Json json;
  json["vocab_size"] = spec.embedding.vocab_size;
  json["hidden_size"] = spec.hidden_size;
  json["intermediate_size"] = dense != nullptr ? dense->intermediate_size : moe->intermediate_size;
  json["num_hidden_layers"] = spec.layers.size();
  json["num_attention_heads"] = mixer.num_heads;
  json["num_key_value_heads"] = mixer.num_heads;
  json["q_lora_rank"] = mixer.q_lora_rank ? Json(*mixer.q_lora_rank) : Json(nullptr);
  json["kv_lora_rank"] = mixer.kv_lora_rank;
  json["qk_nope_head_dim"] = mixer.nope_head_dim;
  json["qk_rope_head_dim"] = mixer.rope_head_dim;
  json["v_head_dim"] = mixer.v_head_dim;
  json["attention_bias"] = mixer.output_bias;
  json["hidden_act"] = activation_name(dense != nullptr ? dense->activation : moe->activation);
  json["max_position_embeddings"] = spec.max_positions;
  json["initializer_range"] = spec.init.std;
  json["rms_norm_eps"] = spec.head.final_norm->eps;
  json["rope_theta"] = mixer.rope->base;
  json["rope_scaling"] = rope_scaling_json(*mixer.rope);
  if (form.rope_interleave_key) {
    json["rope_interleave"] = mixer.rope->layout == spec::RopeLayout::kInterleaved;
  }
  json["tie_word_embeddings"] = spec.head.tied;
  json["num_nextn_predict_layers"] = spec.mtp ? spec.mtp->depths() : 0;
  json["pad_token_id"] =
      spec.embedding.padding_id ? Json(*spec.embedding.padding_id) : Json(nullptr);
  if (mixer.indexer) {
    json["index_n_heads"] = mixer.indexer->num_heads;
    json["index_head_dim"] = mixer.indexer->head_dim;
    json["index_topk"] = mixer.indexer->top_k;
  }
  write_layers(spec, form, json);
  write_moe(spec, json);
  return json;
}

std::vector<Rule> latent_rules(const spec::ModelSpec& spec) {
  std::vector<Rule> rules = fused_expert_rules("model.layers.{}.mlp.experts");
  for (const char* part : {"gate_proj", "up_proj", "down_proj"}) {
    rules.push_back(MapRule{{fmt::format("model.layers.{{}}.mlp.shared_expert.{}.weight", part)},
                            {fmt::format("model.layers.{{}}.mlp.shared_experts.{}.weight", part)}});
  }
  rules.push_back(IgnoreRule{"*rotary_emb.inv_freq", "computed from the config"});
  if (!spec.mtp) {
    rules.push_back(
        RefuseRule{"model.layers.*.eh_proj.weight",
                   "next-token prediction (MTP), which num_nextn_predict_layers denies"});
    return rules;
  }
  rules.push_back(IgnoreRule{"model.layers.*.embed_tokens.weight", "copies of the embedding"});
  if (!spec.mtp->own_head) {
    rules.push_back(IgnoreRule{"model.layers.*.shared_head.head.weight", "copies of the head"});
  }
  return rules;
}

}  // namespace headway::io
