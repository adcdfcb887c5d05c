// See plain_decoder.h. Not for: tensor names.
#include "headway/io/hf/plain_decoder.h"

#include <fmt/format.h>

#include "headway/base/error.h"
#include "headway/io/hf/rope_config.h"

namespace headway::io {
namespace {

struct ActivationName {
  std::string_view name;
  spec::Activation activation;
};

/// The first name of an activation is the one written.
constexpr auto kActivations = std::to_array<ActivationName>({
    {"silu", spec::Activation::kSilu},
    {"gelu_pytorch_tanh", spec::Activation::kGeluTanh},
    {"gelu", spec::Activation::kGelu},
    {"relu", spec::Activation::kRelu},
    {"swish", spec::Activation::kSilu},
    {"gelu_new", spec::Activation::kGeluTanh},
});

int64_t read_head_dim(ConfigReader& config, int64_t hidden, int64_t heads,
                      const PlainDefaults& defaults) {
  const IntegerRange range{1, config::kMaxHeadDim};
  if (defaults.needs_head_dim && !config.is_present("head_dim")) {
    return config.required_integer("head_dim", range);
  }
  if (const auto given = config.optional_integer("head_dim", range)) return *given;
  if (!config.has("head_dim") && hidden % heads != 0) {
    config.problem("head_dim", fmt::format("a number of channels: hidden_size {} is no multiple "
                                           "of num_attention_heads {}",
                                           hidden, heads));
  }
  return std::max<int64_t>(hidden / heads, 1);
}

spec::AttentionSpec read_attention(ConfigReader& config, int64_t hidden,
                                   const PlainDefaults& defaults) {
  spec::AttentionSpec attention;
  const IntegerRange heads{1, config::kMaxHeads};
  attention.num_heads = config.required_integer("num_attention_heads", heads);
  const bool needs_kv = defaults.needs_kv_heads && !config.is_present("num_key_value_heads");
  attention.num_kv_heads = needs_kv
                               ? config.required_integer("num_key_value_heads", heads)
                               : config.integer("num_key_value_heads", heads, attention.num_heads);
  if (attention.num_heads % attention.num_kv_heads != 0) {
    config.problem("num_key_value_heads",
                   fmt::format("a divisor of num_attention_heads (= {})", attention.num_heads));
  }
  attention.head_dim = read_head_dim(config, hidden, attention.num_heads, defaults);
  attention.v_head_dim = attention.head_dim;
  attention.scale = default_scale(attention.head_dim);
  return attention;
}

/// The first dense MLP; null when all layers have experts.
const spec::DenseMlpSpec* first_dense(const spec::ModelSpec& spec) {
  for (const spec::LayerSpec& layer : spec.layers) {
    if (const auto* mlp = std::get_if<spec::DenseMlpSpec>(&layer.mlp)) return mlp;
  }
  return nullptr;
}

}  // namespace

spec::DenseMlpSpec dense_or_expert(const spec::ModelSpec& spec) {
  if (const spec::DenseMlpSpec* dense = first_dense(spec)) return *dense;
  const auto& moe = std::get<spec::MoeSpec>(spec.layers.front().mlp);
  spec::DenseMlpSpec mlp;
  mlp.intermediate_size = moe.intermediate_size;
  mlp.activation = moe.activation;
  return mlp;
}

const spec::AttentionSpec* first_attention(const spec::ModelSpec& spec) {
  for (const spec::LayerSpec& layer : spec.layers) {
    if (const auto* attention = spec::attention_of(layer)) return attention;
  }
  return nullptr;
}

spec::Activation read_activation(ConfigReader& config) {
  const std::string name = config.text("hidden_act", "silu");
  for (const ActivationName& entry : kActivations) {
    if (entry.name == name) return entry.activation;
  }
  config.problem("hidden_act", "silu | gelu_pytorch_tanh | gelu | relu");
  return spec::Activation::kSilu;
}

std::string_view activation_name(spec::Activation activation) {
  for (const ActivationName& entry : kActivations) {
    if (entry.activation == activation) return entry.name;
  }
  throw InternalError("[config.json] activation without a name");
}

std::optional<int64_t> read_padding_id(ConfigReader& config, int64_t vocab_size,
                                       std::optional<int64_t> otherwise) {
  if (!config.is_present("pad_token_id")) {
    config.mark("pad_token_id");
    return otherwise;
  }
  const auto id = config.optional_integer("pad_token_id", {-vocab_size, vocab_size - 1});
  return id && *id < 0 ? *id + vocab_size : id;
}

void read_model_flags(ConfigReader& config, spec::ModelSpec& model, bool tied_otherwise) {
  model.head.tied = config.boolean("tie_word_embeddings", tied_otherwise);
  model.init.std = config.number("initializer_range", model.init.std, 0.0);
  model.init.scale_residual = false;
  config.mark("quantization_config");  // of the tensors, not of the model (io/quantization.h)
}

spec::ModelSpec read_plain_decoder(ConfigReader& config, const PlainDefaults& defaults) {
  spec::ModelSpec model;
  const IntegerRange width{1, config::kMaxWidth};
  model.hidden_size = config.required_integer("hidden_size", width);
  model.embedding.vocab_size = config.required_integer("vocab_size", {1, config::kMaxVocab});
  model.max_positions =
      config.integer("max_position_embeddings", {1, config::kMaxTokens}, defaults.max_positions);
  const int64_t layers = config.required_integer("num_hidden_layers", {1, config::kMaxLayers});
  spec::LayerSpec layer;
  layer.block = "full_attention";
  spec::AttentionSpec attention = read_attention(config, model.hidden_size, defaults);
  attention.rope = read_single_rope(config, model.max_positions, defaults.rope);
  layer.mixer = attention;
  spec::DenseMlpSpec mlp;
  mlp.intermediate_size =
      defaults.has_dense_mlp ? config.required_integer("intermediate_size", width) : 1;
  mlp.activation = read_activation(config);
  layer.mlp = mlp;
  const spec::NormSpec norm{.eps = config.number("rms_norm_eps", 1e-6, 0.0)};
  layer.pre_mixer_norm = norm;
  layer.pre_mlp_norm = norm;
  model.head.final_norm = norm;
  model.embedding.padding_id = read_padding_id(config, model.embedding.vocab_size);
  read_model_flags(config, model);
  model.layers.assign(static_cast<size_t>(layers), layer);
  return model;
}

void for_each_attention(spec::ModelSpec& model,
                        const std::function<void(size_t, spec::AttentionSpec&)>& change) {
  for (size_t i = 0; i < model.layers.size(); ++i) {
    change(i, std::get<spec::AttentionSpec>(model.layers[i].mixer));
  }
}

std::optional<int64_t> common_window(const spec::ModelSpec& spec) {
  std::optional<int64_t> common;
  for (const spec::LayerSpec& layer : spec.layers) {
    const auto window = std::get<spec::AttentionSpec>(layer.mixer).window;
    if (!window) continue;
    if (common && *common != *window) return std::nullopt;
    common = window;
  }
  return common;
}

void plain_reasons(const spec::ModelSpec& spec, const PlainTraits& traits, Reasons& reasons) {
  common_reasons(spec, traits.norm, reasons);
  const auto& first = std::get<spec::AttentionSpec>(spec.layers.front().mixer);
  const spec::DenseMlpSpec* first_mlp = first_dense(spec);
  for (size_t i = 0; i < spec.layers.size(); ++i) {
    const auto& attention = std::get<spec::AttentionSpec>(spec.layers[i].mixer);
    const auto* mlp = std::get_if<spec::DenseMlpSpec>(&spec.layers[i].mlp);
    const auto add_if = [&](bool condition, const std::string& feature) {
      if (condition) reasons.add_layer(i, feature);
    };
    add_if(attention.gate.kind != spec::GateKind::kNone,
           fmt::format("a {} output gate", enum_name(attention.gate.kind)));
    add_if(!attention.rope, "attention without rotary positions");
    add_if(!traits.partial_rotation && attention.rope && attention.rope->fraction != 1.0 &&
               attention.rope->kind != spec::RopeKind::kProportional,
           "partial rotation");
    add_if(attention.q_norm.has_value() != traits.has_qk_norm,
           traits.has_qk_norm ? "no q/k norm" : "q/k norms");
    add_if(attention.q_norm && attention.qk_norm_across_heads != traits.norms_across_heads,
           traits.norms_across_heads ? "q/k norms of single heads" : "q/k norms across heads");
    add_if(mlp != nullptr && mlp->limit.has_value(), "a limit in the MLP");
    add_if(attention.num_heads != first.num_heads || attention.num_kv_heads != first.num_kv_heads ||
               attention.head_dim != first.head_dim,
           "other head counts than layer 0");
    add_if(attention.rope && first.rope &&
               canonical_rope(*attention.rope) != canonical_rope(*first.rope),
           "other rotary positions than layer 0");
    add_if(attention.qkv_bias != first.qkv_bias || attention.output_bias != first.output_bias ||
               (mlp != nullptr && *mlp != *first_mlp),
           "other biases or another MLP than layer 0");
  }
}

Json write_plain_decoder(const spec::ModelSpec& spec) {
  const spec::AttentionSpec& attention = *first_attention(spec);
  const spec::DenseMlpSpec mlp = dense_or_expert(spec);
  Json json;
  json["vocab_size"] = spec.embedding.vocab_size;
  json["hidden_size"] = spec.hidden_size;
  json["intermediate_size"] = mlp.intermediate_size;
  json["num_hidden_layers"] = spec.layers.size();
  json["num_attention_heads"] = attention.num_heads;
  json["num_key_value_heads"] = attention.num_kv_heads;
  json["head_dim"] = attention.head_dim;
  json["hidden_act"] = activation_name(mlp.activation);
  json["max_position_embeddings"] = spec.max_positions;
  json["initializer_range"] = spec.init.std;
  json["rms_norm_eps"] = spec.head.final_norm->eps;
  json["rope_theta"] = attention.rope->base;
  json["rope_scaling"] = rope_scaling_json(*attention.rope);
  json["tie_word_embeddings"] = spec.head.tied;
  json["pad_token_id"] =
      spec.embedding.padding_id ? Json(*spec.embedding.padding_id) : Json(nullptr);
  return json;
}

}  // namespace headway::io
