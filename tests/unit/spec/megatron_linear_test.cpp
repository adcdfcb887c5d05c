// Megatron's arguments of linear attention: which layers are linear, what they become, and every
// rule's message. Not for: numbers (tests/golden/megatron).
#include "headway/spec/megatron_linear.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "headway/base/error.h"
#include "headway/spec/megatron.h"

namespace headway::spec {
namespace {

using testing::HasSubstr;

Json arguments(const Json& changes) {
  Json result = {{"num_layers", 6},
                 {"hidden_size", 64},
                 {"vocab_size", 32},
                 {"num_attention_heads", 8},
                 {"normalization", "RMSNorm"},
                 {"experimental_attention_variant", "gated_delta_net"},
                 {"linear_attention_freq", 3},
                 {"linear_num_key_heads", 2},
                 {"linear_num_value_heads", 4},
                 {"linear_key_head_dim", 8},
                 {"linear_value_head_dim", 16}};
  for (const auto& [key, value] : changes.items()) result[key] = value;
  return result;
}

std::string pattern(const Json& changes) {
  std::string text;
  for (const LayerSpec& layer : from_megatron(arguments(changes)).layers) {
    text += attention_of(layer) == nullptr ? '1' : '0';
  }
  return text;
}

template <class E>
std::string error_of(const Json& changes) {
  try {
    from_megatron(arguments(changes));
  } catch (const E& error) {
    return error.what();
  }
  return "nothing of this kind thrown";
}

TEST(MegatronLinear, EveryNthLayerAttends) {
  EXPECT_EQ(pattern(Json::object()), "110110");
  EXPECT_EQ(pattern({{"linear_attention_freq", 1}}), "000000");
  EXPECT_EQ(pattern({{"linear_attention_freq", 4}}), "111011");
  EXPECT_EQ(pattern({{"linear_attention_freq", Json::array({0, 1, 1, 0, 1, 0})}}), "011010");
  EXPECT_EQ(pattern({{"experimental_attention_variant", nullptr}}), "000000");
  EXPECT_EQ(pattern({{"experimental_attention_variant", "gdn"}}), "110110");
  EXPECT_EQ(pattern({{"experimental_attention_variant", nullptr},
                     {"linear_attention_type", "gated_delta_net"}}),
            "110110");
}

TEST(MegatronLinear, SizesActivationsAndNorm) {
  const auto mixer = [](const Json& changes) {
    return std::get<GatedDeltaNetSpec>(from_megatron(arguments(changes)).layers[0].mixer);
  };
  GatedDeltaNetSpec want;
  want.num_key_heads = 2;
  want.num_value_heads = 4;
  want.key_head_dim = 8;
  want.value_head_dim = 16;
  want.norm.eps = 1e-5;
  want.conv_activation = Activation::kGelu;
  want.gate = DeltaGate::kGelu;
  EXPECT_EQ(mixer(Json::object()), want);
  want.conv_activation = Activation::kSilu;
  want.gate = DeltaGate::kSilu;
  want.conv_size = 3;
  want.norm = {.weight = NormWeight::kZeroCentered, .eps = 1e-6};
  EXPECT_EQ(mixer({{"activation_func", "silu"},
                   {"linear_conv_kernel_dim", 3},
                   {"layernorm_epsilon", 1e-6},
                   {"layernorm_zero_centered_gamma", true}}),
            want);
}

TEST(MegatronLinear, Rules) {
  const auto config = [](const Json& changes) { return error_of<ConfigError>(changes); };
  EXPECT_THAT(config({{"experimental_attention_variant", "magic"}}),
              HasSubstr("Invalid experimental attention variant"));
  for (const Json& bad : {Json(0), Json(-2), Json(3.14), Json("4"), Json(true), Json(nullptr)}) {
    EXPECT_THAT(config({{"linear_attention_freq", bad}}),
                HasSubstr("Invalid linear_attention_freq"));
  }
  EXPECT_THAT(config({{"linear_attention_freq", Json::array({1, 0})}}),
              HasSubstr("Invalid length of linear_attention_pattern"));
  EXPECT_THAT(config({{"linear_attention_freq", Json::array({1, 0, 2, 0, 1, 1})}}),
              HasSubstr("Invalid linear_attention_freq[2]"));
  EXPECT_THAT(config({{"linear_attention_freq", Json::array({1, 0, true, 0, 1, 1})}}),
              HasSubstr("Invalid linear_attention_freq[2]"));
  EXPECT_THAT(config({{"linear_num_value_heads", 5}}),
              HasSubstr("allowed a multiple of linear_num_key_heads (= 2)"));
  EXPECT_THAT(config({{"linear_attention_type", "gdn"}}),
              HasSubstr("allowed the value of experimental_attention_variant"));
  EXPECT_THAT(error_of<UnsupportedError>({{"experimental_attention_variant", "gdn2"}}),
              HasSubstr("gdn2: that variant is not in this build"));
  EXPECT_THAT(error_of<UnsupportedError>({{"normalization", "LayerNorm"}}),
              HasSubstr("output norm of linear attention"));
}

}  // namespace
}  // namespace headway::spec
