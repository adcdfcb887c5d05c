// From checked arguments to layers.
// Not for: the checks themselves (megatron_check.cpp).
#include "headway/spec/megatron.h"

#include <algorithm>
#include <cmath>

#include <fmt/format.h>

#include "headway/base/error.h"
#include "headway/base/fields.h"
#include "headway/base/text_util.h"
#include "headway/spec/megatron_check.h"
#include "headway/spec/megatron_fields.h"
#include "headway/spec/rope_frequencies.h"

namespace headway::spec {

NormSpec megatron_norm(const MegatronConfig& config) {
  NormSpec norm;
  norm.eps = config.layernorm_epsilon;
  if (config.normalization == MegatronNorm::kLayer) {
    norm.kind = NormKind::kLayer;
    norm.bias = true;
  } else if (config.layernorm_zero_centered_gamma) {
    norm.weight = NormWeight::kZeroCentered;
  }
  return norm;
}

namespace {

GateSpec gate_of(const MegatronConfig& config) {
  GateSpec gate;
  if (config.attention_output_gate) gate.kind = GateKind::kElementWise;
  if (config.head_wise_attn_gate) {
    gate.kind = GateKind::kHeadWise;
    parse_gate_init(config.head_wise_attn_gate_init, gate);
  }
  return gate;
}

SinkKind sinks_of(MegatronSoftmax type) {
  switch (type) {
    case MegatronSoftmax::kVanilla:
      return SinkKind::kNone;
    case MegatronSoftmax::kOffByOne:
      return SinkKind::kOffByOne;
    case MegatronSoftmax::kLearnable:
      return SinkKind::kLearnable;
  }
  throw InternalError("[megatron] softmax type is not in the enum");
}

void set_yarn(const MegatronConfig& config, RopeSpec& rope) {
  rope.kind = RopeKind::kYarn;
  rope.factor = config.yarn_rotary_scaling_factor.value();
  rope.original_max_positions = config.yarn_original_max_position_embeddings;
  rope.beta_fast = config.yarn_beta_fast;
  rope.beta_slow = config.yarn_beta_slow;
  rope.truncate = config.yarn_correction_range_round_to_int;
  rope.attention_factor =
      yarn_concentration(rope.factor, config.yarn_mscale, config.yarn_mscale_all_dim);
}

RopeSpec rope_of(const MegatronConfig& config) {
  RopeSpec rope;
  rope.base = config.rotary_base;
  rope.fraction = config.rotary_percent;
  if (config.rotary_interleaved) rope.layout = RopeLayout::kInterleaved;
  if (config.position_embedding_type == PositionType::kMrope) {
    const std::vector<int64_t>& sections = config.mrope_section.value();
    rope.sections = {sections[0], sections[1], sections[2]};
    rope.sections_interleaved = config.mrope_interleaved;
  }
  if (config.position_embedding_type == PositionType::kYarn) {
    set_yarn(config, rope);
  } else if (config.rope_scaling) {
    rope.kind = RopeKind::kLlama3;
    rope.factor = config.rope_scaling_factor;
    rope.low_freq_factor = config.rope_scaling_low_freq_factor;
    rope.high_freq_factor = config.rope_scaling_high_freq_factor;
    rope.original_max_positions = config.rope_scaling_original_max_position_embeddings;
  } else if (config.rotary_scaling_factor.value_or(1.0) != 1.0) {
    rope.kind = RopeKind::kLinear;
    rope.factor = *config.rotary_scaling_factor;
  }
  return rope;
}

DenseMlpSpec mlp_of(const MegatronConfig& config) {
  DenseMlpSpec mlp;
  mlp.intermediate_size = config.ffn_hidden_size.value_or(4 * config.hidden_size);
  mlp.gated = config.gated_linear_unit;
  mlp.bias = config.add_bias_linear;
  switch (config.activation_func) {
    case MegatronActivation::kSilu:
      mlp.activation = Activation::kSilu;
      break;
    case MegatronActivation::kRelu:
      mlp.activation = Activation::kRelu;
      break;
    case MegatronActivation::kGelu:
      mlp.activation = config.bias_activation_fusion ? Activation::kGeluTanh : Activation::kGelu;
      break;
  }
  return mlp;
}

/// The one scale of scores on every path (upstream's differ by path). apply_query_key_layer_scaling
/// divides scores by the layer's number and multiplies the softmax's argument by it: no change.
double scale_of(const MegatronConfig& config) {
  const auto dim = static_cast<double>(config.head_dim());
  if (config.softmax_scale) return *config.softmax_scale;
  if (!config.use_mup) return 1.0 / std::sqrt(dim);
  return std::sqrt(config.mup_base_head_dim.value_or(1.0)) /
         std::pow(dim, config.mup_attn_scale_power);
}

/// The layer that layers behind the stack, of multi-token prediction, repeat: the last one with
/// softmax attention, or the last one with its mixer replaced.
int64_t mtp_source(const MegatronConfig& config) {
  for (int64_t number = config.num_layers; number > 0; --number) {
    if (!layer_is_linear(config, number)) return number;
  }
  return config.num_layers;
}

LayerSpec layer_of(const MegatronConfig& config, int64_t layer_number) {
  LayerSpec layer;
  const bool behind = layer_number > config.num_layers;
  if (!behind && layer_is_linear(config, layer_number)) {
    layer.block = "linear_attention";
    layer.mixer = megatron_delta_net(config);
  } else if (config.multi_latent_attention) {
    layer.block = "latent_attention";
    layer.mixer = megatron_latent(config, layer_number);
  } else {
    const AttentionSpec attention = layer_attention(config, layer_number);
    layer.block = attention.window ? "sliding_attention" : "full_attention";
    layer.mixer = attention;
  }
  const DenseMlpSpec dense = mlp_of(config);
  if (layer_has_experts(config, behind ? mtp_source(config) : layer_number)) {
    layer.mlp = megatron_moe(config, dense);
  } else {
    layer.mlp = dense;
  }
  layer.pre_mixer_norm = layer.pre_mlp_norm = megatron_norm(config);
  return layer;
}

std::optional<MtpSpec> mtp_of(const MegatronConfig& config) {
  const int64_t depths = config.mtp_num_layers.value_or(0);
  if (depths == 0) return std::nullopt;
  MtpSpec mtp;
  for (int64_t k = 1; k <= depths; ++k)
    mtp.layers.push_back(layer_of(config, config.num_layers + k));
  mtp.embedding_norm = mtp.hidden_norm = mtp.final_norm = megatron_norm(config);
  mtp.shared_weights = config.mtp_use_repeated_layer;
  mtp.detach = config.mtp_detach_heads;
  mtp.loss_scale = config.mtp_loss_scaling_factor.value_or(MtpSpec{}.loss_scale);
  return mtp;
}

/// Rows of the embedding: the arguments' own number, which must hold the tokenizer's ids.
int64_t vocabulary(const MegatronConfig& config, int64_t tokenizer) {
  if (!config.vocab_size && tokenizer <= 0) {
    throw ConfigError("model.megatron.vocab_size: missing; allowed an integer >= 1");
  }
  const int64_t rows = config.vocab_size.value_or(tokenizer);
  if (rows < tokenizer) {
    throw ConfigError(
        fmt::format("model.megatron.vocab_size = {}: allowed at least the size of the "
                    "tokenizer (= {})",
                    rows, tokenizer));
  }
  return rows;
}

}  // namespace

MegatronConfig read_megatron(const Json& arguments, const std::string& path) {
  Problems problems;
  std::vector<std::string> unsupported;
  const Json typed = typed_arguments(arguments, path, problems, unsupported);
  MegatronConfig config;
  const size_t before = problems.lines().size();
  read_fields(typed, path, config, problems);
  const bool sound = problems.lines().size() == before;
  if (sound) check_megatron(config, path, problems, unsupported);
  problems.throw_if_any();
  if (!unsupported.empty()) throw UnsupportedError(join(unsupported, "\n"));
  return config;
}

std::optional<std::array<int64_t, 2>> layer_window(const MegatronConfig& config,
                                                   int64_t layer_number) {
  if (!config.window_size) return std::nullopt;
  const Json& skip = config.window_attn_skip_freq;
  bool windowed = true;
  if (skip.is_number_integer()) {
    // Multi-token prediction counts its layers from 1 again.
    const int64_t stack = config.num_layers;
    windowed =
        (layer_number > stack ? layer_number - stack : layer_number) % skip.get<int64_t>() != 0;
  }
  if (skip.is_array()) {
    const auto last = static_cast<int64_t>(skip.size()) - 1;
    const Json& entry = skip.at(std::min(layer_number - 1, last));
    windowed = entry == true || entry == 1;
  }
  return windowed ? config.window_size : std::nullopt;
}

bool is_causal(MegatronMask mask) {
  switch (mask) {
    case MegatronMask::kCausal:
    case MegatronMask::kPaddingCausal:
    case MegatronMask::kCausalBottomRight:
      return true;
    case MegatronMask::kPadding:
    case MegatronMask::kNoMask:
    case MegatronMask::kArbitrary:
      return false;
  }
  throw InternalError("[megatron] mask type is not in the enum");
}

bool layer_skips_rope(const MegatronConfig& config, int64_t layer_number) {
  const Json& skip = config.no_rope_freq;
  if (layer_number > config.num_layers && static_cast<int64_t>(skip.size()) < layer_number) {
    return false;
  }
  if (skip.is_number_integer()) return layer_number % skip.get<int64_t>() == 0;
  if (!skip.is_array()) return false;
  const Json& entry = skip.at(layer_number - 1);
  return entry == true || entry == 1;
}

AttentionSpec layer_attention(const MegatronConfig& config, int64_t layer_number) {
  AttentionSpec attention;
  attention.num_heads = config.num_attention_heads;
  attention.num_kv_heads = config.query_groups();
  attention.head_dim = attention.v_head_dim = config.head_dim();
  const bool rotates = config.position_embedding_type != PositionType::kNone &&
                       !layer_skips_rope(config, layer_number);
  if (rotates) {
    attention.rope = rope_of(config);
    if (config.rotary_base_per_layer) {
      attention.rope->base = config.rotary_base_per_layer->at(layer_number - 1);
    }
  }
  const auto window = layer_window(config, layer_number);
  if (window && (*window)[0] >= 0) attention.window = (*window)[0] + 1;
  attention.scale = scale_of(config);
  attention.dropout = config.attention_dropout;
  attention.logit_softcap = config.attn_logit_softcap;
  attention.sinks = sinks_of(config.softmax_type);
  if (config.qk_layernorm) attention.q_norm = attention.k_norm = megatron_norm(config);
  if (config.qk_l2_norm) {
    NormSpec bare;
    bare.weight = NormWeight::kNone;
    bare.eps = config.layernorm_epsilon;
    attention.q_norm = attention.k_norm = bare;
  }
  attention.gate = gate_of(config);
  attention.qkv_bias = config.qkv_bias();
  attention.gate_bias = config.qkv_bias() && attention.gate.kind != GateKind::kNone;
  attention.output_bias = config.add_bias_linear;
  return attention;
}

double yarn_concentration(double factor, std::optional<double> mscale,
                          std::optional<double> mscale_all_dim) {
  if (!mscale || !mscale_all_dim) return yarn_magnitude(factor, 1.0);
  return yarn_magnitude(factor, *mscale) / yarn_magnitude(factor, *mscale_all_dim);
}

ModelSpec megatron_model(const MegatronConfig& config, int64_t vocab_size) {
  ModelSpec spec;
  spec.hidden_size = config.hidden_size;
  spec.max_positions = config.max_sequence_length;
  spec.embedding.vocab_size = vocabulary(config, vocab_size);
  for (int64_t layer = 1; layer <= config.num_layers; ++layer) {
    spec.layers.push_back(layer_of(config, layer));
  }
  spec.head.tied = config.share_embeddings_and_output_weights;
  spec.head.final_norm = megatron_norm(config);
  spec.mtp = mtp_of(config);
  spec.init.std = config.init_method_std;
  spec.rope_precision = RopePrecision::kModelDtype;
  spec.rope_per_layer = config.rotary_base_per_layer.has_value();
  validate(spec);
  return spec;
}

ModelSpec from_megatron(const Json& arguments, int64_t vocab_size) {
  return megatron_model(read_megatron(arguments), vocab_size);
}

}  // namespace headway::spec
