// See megatron_linear.h. Not for: other mixers.
#include "headway/spec/megatron_linear.h"

#include <fmt/format.h>

#include "headway/base/error.h"
#include "headway/base/text_util.h"
#include "headway/spec/block_spec.h"
#include "headway/spec/megatron_config.h"

namespace headway::spec {
namespace {

std::optional<std::string> variant_of(const MegatronConfig& config) {
  return config.experimental_attention_variant ? config.experimental_attention_variant
                                               : config.linear_attention_type;
}

/// What the pattern of block_spec.h reads.
BlockArguments block_of(const MegatronConfig& config) {
  BlockArguments block;
  block.num_layers = config.num_layers;
  block.experimental_attention_variant = variant_of(config);
  block.linear_attention_freq = config.linear_attention_freq;
  return block;
}

class Checker {
 public:
  Checker(const MegatronConfig& config, const std::string& path, Problems& problems,
          std::vector<std::string>& unsupported)
      : c_(config), path_(path), problems_(problems), unsupported_(unsupported) {}

  void run() {
    const auto variant = variant_of(c_);
    if (!variant) return;
    const std::string at = join_path(path_, "experimental_attention_variant");
    if (c_.linear_attention_type && c_.experimental_attention_variant &&
        *c_.linear_attention_type != *c_.experimental_attention_variant) {
      problems_.add_value(join_path(path_, "linear_attention_type"), *c_.linear_attention_type,
                          "the value of experimental_attention_variant");
    }
    if (*variant == "dsa") return;  // megatron_latent.h
    if (*variant == "dsv4_hybrid" || *variant == "gdn2") {
      unsupported_.push_back(
          fmt::format("{} = {}: that variant is not in this build", at, *variant));
      return;
    }
    if (!is_linear_attention_variant(variant)) {
      problems_.add(at, fmt::format("{}: Invalid experimental attention variant; allowed "
                                    "gated_delta_net | gdn | dsa",
                                    shorten(*variant)));
      return;
    }
    check_frequency();
    check_heads();
  }

 private:
  void check_frequency() {
    try {
      get_linear_attention_pattern(block_of(c_));
    } catch (const ConfigError& error) {
      problems_.add(join_path(path_, "linear_attention_freq"), error.what());
    }
  }

  void check_heads() {
    const auto divisible = [&](std::string_view field, int64_t value, int64_t by,
                               std::string_view of) {
      if (value % by == 0) return;
      problems_.add(join_path(path_, field),
                    fmt::format("{} = {}: allowed a multiple of {} (= {})", field, value, of, by));
    };
    divisible("linear_num_value_heads", c_.linear_num_value_heads, c_.linear_num_key_heads,
              "linear_num_key_heads");
    const int64_t ranks = c_.tensor_model_parallel_size;
    divisible("linear_num_key_heads", c_.linear_num_key_heads, ranks, "tensor_model_parallel_size");
    divisible("linear_num_value_heads", c_.linear_num_value_heads, ranks,
              "tensor_model_parallel_size");
    if (c_.normalization == MegatronNorm::kLayer) {
      unsupported_.push_back(fmt::format(
          "{} = LayerNorm: an output norm of linear attention other than RMSNorm is not "
          "in this build",
          join_path(path_, "normalization")));
    }
  }

  const MegatronConfig& c_;
  const std::string& path_;
  Problems& problems_;
  std::vector<std::string>& unsupported_;
};

}  // namespace

void check_megatron_linear(const MegatronConfig& config, const std::string& path,
                           Problems& problems, std::vector<std::string>& unsupported) {
  Checker(config, path, problems, unsupported).run();
}

bool layer_is_linear(const MegatronConfig& config, int64_t layer_number) {
  if (!is_linear_attention_variant(variant_of(config))) return false;
  return get_linear_attention_pattern(block_of(config)).at(layer_number - 1) == 1;
}

GatedDeltaNetSpec megatron_delta_net(const MegatronConfig& config) {
  GatedDeltaNetSpec mixer;
  mixer.num_key_heads = config.linear_num_key_heads;
  mixer.num_value_heads = config.linear_num_value_heads;
  mixer.key_head_dim = config.linear_key_head_dim;
  mixer.value_head_dim = config.linear_value_head_dim;
  mixer.conv_size = config.linear_conv_kernel_dim;
  mixer.norm.eps = config.layernorm_epsilon;
  if (config.layernorm_zero_centered_gamma) mixer.norm.weight = NormWeight::kZeroCentered;
  switch (config.activation_func) {
    case MegatronActivation::kSilu:
      mixer.conv_activation = Activation::kSilu;
      mixer.gate = DeltaGate::kSilu;
      break;
    case MegatronActivation::kRelu:
      mixer.conv_activation = Activation::kRelu;
      mixer.gate = DeltaGate::kRelu;
      break;
    case MegatronActivation::kGelu:
      mixer.conv_activation = Activation::kGelu;
      mixer.gate = DeltaGate::kGelu;
      break;
  }
  return mixer;
}

}  // namespace headway::spec
