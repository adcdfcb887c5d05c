// Megatron's SelfAttention: hidden [s,b,h] in and out, its output bias apart.
// Legend: S sequence, B batch, D hidden, T = B·S packed tokens.
#include "headway/engine/probe_attention.h"

#include <ATen/Functions.h>

#include "headway/base/error.h"
#include "headway/base/text_util.h"

namespace headway::engine {
namespace {

constexpr const char* kScope = "layers.0.mixer.";
constexpr const char* kPrefix = "decoder.layers.0.self_attention.";

/// The rotary spec of the file: `rope` of the metadata, else what the arguments say of positions.
std::optional<spec::RopeSpec> rope_of(const ProbeInput& input, const Json& arguments,
                                      const spec::AttentionSpec& attention) {
  if (!input.text("rope").empty()) return given_rope(input);
  const bool said =
      arguments.contains("position_embedding_type") || arguments.contains("rotary_base_per_layer");
  return said ? attention.rope : std::nullopt;
}

std::shared_ptr<nn::RotaryTable> rotary_of(const ProbeInput& input,
                                           const spec::MegatronConfig& config,
                                           const spec::AttentionSpec& attention) {
  if (spec::layer_skips_rope(config, input.layer_number())) return nullptr;
  if (input.has("rotary_pos_emb")) {
    const auto layout =
        config.rotary_interleaved ? spec::RopeLayout::kInterleaved : spec::RopeLayout::kHalf;
    const at::Tensor table = input.tensor("rotary_pos_emb");
    const at::Tensor angles = angles_of(table, config.rotary_interleaved);
    auto rotary = nn::RotaryTable::from_angles(angles, rotary_factor(input, config), layout);
    if (table.size(1) > 1) rotary.count_by_token();  // positions of several axes
    return std::make_shared<nn::RotaryTable>(std::move(rotary));
  }
  if (!attention.rope) return nullptr;
  return std::make_shared<nn::RotaryTable>(*attention.rope, attention.head_dim,
                                           spec::RopePrecision::kModelDtype, input.dtype(),
                                           at::kCPU);
}

}  // namespace

spec::ModelSpec model_around(const spec::MixerSpec& mixer, int64_t hidden_size) {
  spec::ModelSpec model;
  model.hidden_size = hidden_size;
  model.max_positions = 1;
  model.embedding.vocab_size = 1;
  model.head.tied = true;
  model.rope_precision = spec::RopePrecision::kModelDtype;
  spec::LayerSpec layer;
  layer.block = "attention";
  layer.mixer = mixer;
  spec::DenseMlpSpec mlp;
  mlp.intermediate_size = 1;
  layer.mlp = mlp;
  model.layers.push_back(layer);
  return model;
}

double rotary_factor(const ProbeInput& input, const spec::MegatronConfig& config) {
  if (config.yarn_rotary_scaling_factor) {
    return spec::yarn_concentration(*config.yarn_rotary_scaling_factor, config.yarn_mscale,
                                    config.yarn_mscale_all_dim);
  }
  const std::string text = input.text("rope");
  if (!text.starts_with("{")) return 1.0;
  const Json json = parse_json(text, "metadata rope", JsonErrors::kConfig);
  return parse_probe_rope(json, "rope").rope.attention_factor.value_or(1.0);
}

std::optional<spec::RopeSpec> given_rope(const ProbeInput& input) {
  const std::string text = input.text("rope");
  if (text.empty() || text == "none") return std::nullopt;
  const Json json = text.starts_with("{") ? parse_json(text, "metadata rope", JsonErrors::kConfig)
                                          : Json{{"kind", text}};
  ProbeRope given = parse_probe_rope(json, "rope");
  if (given.interpolation != 1.0) {
    given.rope.kind = spec::RopeKind::kLinear;
    given.rope.factor = given.interpolation;
  }
  return given.rope;
}

void check_layer_number(const ProbeInput& input, const spec::MegatronConfig& config) {
  if (input.layer_number() <= config.num_layers) return;
  throw ConfigError("[probe] layer_number = " + std::to_string(input.layer_number()) +
                    ", allowed 1 to num_layers (= " + std::to_string(config.num_layers) + ")");
}

at::Tensor hidden_states(const ProbeInput& input, const spec::MegatronConfig& config) {
  const at::Tensor hidden = input.tensor("hidden_states");
  if (hidden.dim() != 3 || hidden.size(2) != config.hidden_size || hidden.numel() == 0) {
    throw ShapeError("[probe] hidden_states: allowed [sequence, batch, hidden_size (= " +
                     std::to_string(config.hidden_size) + ")]");
  }
  return hidden;
}

at::Tensor packed_tokens(const at::Tensor& states_SBX) {
  return states_SBX.transpose(0, 1).flatten(0, 1);
}

at::Tensor unpacked_tokens(const at::Tensor& tokens_TX, int64_t batch) {
  return tokens_TX.unflatten(0, {batch, tokens_TX.size(0) / batch}).transpose(0, 1);
}

ProbedAttention make_attention(const ProbeInput& input) {
  const Json arguments = input.arguments();
  ProbedAttention made;
  made.config = spec::read_megatron(arguments, "config");
  check_layer_number(input, made.config);
  spec::AttentionSpec& attention = made.attention;
  attention = spec::layer_attention(made.config, input.layer_number());
  attention.output_bias = false;  // returned apart
  set_probe_rule(input, made.config, input.layer_number(), attention);
  if (!spec::layer_skips_rope(made.config, input.layer_number())) {
    attention.rope = rope_of(input, arguments, attention);
  }
  made.model = model_around(attention, made.config.hidden_size);
  made.parameters = std::make_unique<nn::Parameters>(made.model, input.dtype(), at::kCPU);
  std::set<std::string> apart;
  if (made.config.add_bias_linear) apart.insert("param.linear_proj.bias");
  input.load(*made.parameters, made.model, kScope, kPrefix, apart);
  made.module =
      std::make_unique<nn::Attention>(attention, nn::ParameterScope(*made.parameters, kScope),
                                      rotary_of(input, made.config, attention));
  return made;
}

ProbeOutput probe_attention(const ProbeInput& input) {
  const ProbedAttention probed = make_attention(input);
  const at::Tensor hidden =
      hidden_states(input, probed.config).detach().clone().set_requires_grad(true);
  ProbeOutput out;
  if (probed.config.add_bias_linear) out["bias"] = input.tensor("param.linear_proj.bias");
  const ProbeBatch batch{hidden.size(1), hidden.size(0)};
  const ops::Sequences sequences = probe_sequences(input, batch);
  const nn::ForwardContext context = probe_context(input, batch);
  const at::Tensor packed_TD = packed_tokens(hidden);
  const at::Tensor result = unpacked_tokens(
      probed.module->forward({packed_TD, sequences, nullptr, &context}).out_TD, batch.count);
  out["out"] = result;
  const at::Tensor cotangent = input.cotangent(result);
  if (!cotangent.defined()) return out;
  result.backward(cotangent);
  out["grad_in"] = hidden.grad();
  if (context.attention_bias.defined()) {
    out["grad_in.attention_bias"] = context.attention_bias.grad();
  }
  input.add_gradients(out, *probed.parameters, probed.model, kScope, kPrefix);
  return out;
}

}  // namespace headway::engine
