// Gated DeltaNet layers as data: from a run file, their tensors, cost, words and errors.
// Not for: Megatron's arguments (megatron_linear_test.cpp) or numbers (tests/nn).
#include "headway/spec/gated_delta_net.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "headway/base/error.h"
#include "headway/spec/cost.h"
#include "headway/spec/layer_words.h"
#include "headway/spec/spec_json.h"
#include "headway/spec/tensor_inventory.h"

#include "tests/unit/spec/specs.h"

namespace headway::spec {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

constexpr const char* kHybrid = R"(
model:
  hidden_size: 48
  norms: {weight: zero_centered, eps: 1e-6}
  blocks:
    linear:
      gated_delta_net: {num_key_heads: 2, num_value_heads: 6, key_head_dim: 8, value_head_dim: 10}
      mlp: {intermediate_size: 64}
    full:
      attention: {num_heads: 4, head_dim: 16}
      mlp: {intermediate_size: 64}
  pattern: [linear, linear, full]
  num_layers: 4
)";

ModelSpec hybrid(const std::vector<std::string>& overrides = {}) {
  return resolve(model_config(overrides, kHybrid), 256);
}

std::string error_with(const std::vector<std::string>& overrides) {
  try {
    hybrid(overrides);
  } catch (const ConfigError& error) {
    return error.what();
  }
  return "no ConfigError";
}

const GatedDeltaNetSpec& mixer_of(const ModelSpec& spec, size_t layer) {
  return std::get<GatedDeltaNetSpec>(spec.layers[layer].mixer);
}

const std::string kLinear = "model.blocks.linear.gated_delta_net.";

TEST(GatedDeltaNet, ComesFromARunFile) {
  const ModelSpec spec = hybrid({kLinear + "negative_eigenvalues=true", kLinear + "gate=sigmoid"});
  EXPECT_EQ(attention_of(spec.layers[0]), nullptr);
  EXPECT_NE(attention_of(spec.layers[2]), nullptr);
  const GatedDeltaNetSpec& mixer = mixer_of(spec, 1);
  EXPECT_EQ(mixer.num_value_heads, 6);
  EXPECT_EQ(mixer.conv_size, 4);
  EXPECT_TRUE(mixer.negative_eigenvalues);
  EXPECT_EQ(mixer.gate, DeltaGate::kSigmoid);
  EXPECT_EQ(mixer.norm, (NormSpec{.eps = 1e-6}));
  EXPECT_EQ(spec_from_json(to_json(spec), "test"), spec);
}

TEST(GatedDeltaNet, LowRankDecayAndGate) {
  const ModelSpec spec = hybrid({kLinear + "decay_rank=3", kLinear + "gate_rank=5"});
  EXPECT_EQ(spec_from_json(to_json(spec), "test"), spec);
  std::map<std::string, std::vector<int64_t>> shapes;
  for (const TensorSpec& tensor : layer_tensors(spec, 0)) shapes[tensor.name] = tensor.shape;
  using Shape = std::vector<int64_t>;
  EXPECT_EQ(shapes.at("layers.0.mixer.in.weight"), (Shape{16 + 16 + 60 + 5 + 6 + 3, 48}));
  EXPECT_EQ(shapes.at("layers.0.mixer.gate_up.weight"), (Shape{60, 5}));
  EXPECT_EQ(shapes.at("layers.0.mixer.decay_up.weight"), (Shape{6 * 8, 3}));
  EXPECT_EQ(shapes.at("layers.0.mixer.dt_bias"), (Shape{6 * 8}));
  EXPECT_EQ(shapes.at("layers.0.mixer.A_log"), (Shape{6}));
  EXPECT_THAT(layer_words(spec.layers[0]).mixer, HasSubstr("channel decay 3"));
  EXPECT_THROW(delta_shard(mixer_of(spec, 0), 2), UnsupportedError);
}

TEST(GatedDeltaNet, TensorsAreNamedSegments) {
  const auto layer = layer_tensors(hybrid({kLinear + "conv_bias=true"}), 0);
  std::vector<std::string> names;
  for (const TensorSpec& tensor : layer) names.push_back(tensor.name);
  EXPECT_THAT(names, ElementsAre("layers.0.pre_mixer_norm.weight", "layers.0.mixer.in.weight",
                                 "layers.0.mixer.conv.weight", "layers.0.mixer.conv.bias",
                                 "layers.0.mixer.dt_bias", "layers.0.mixer.A_log",
                                 "layers.0.mixer.norm.weight", "layers.0.mixer.out.weight",
                                 "layers.0.pre_mlp_norm.weight", "layers.0.mlp.up.weight",
                                 "layers.0.mlp.down.weight"));
  const TensorSpec& in = layer[1];
  EXPECT_THAT(in.shape, ElementsAre(2 * 16 + 2 * 60 + 2 * 6, 48));
  std::vector<std::string> segments;
  std::vector<int64_t> rows;
  for (const RowSegment& segment : in.segments) {
    segments.push_back(segment.disk_name);
    rows.push_back(segment.rows);
    EXPECT_TRUE(segment.decay);
  }
  const std::string prefix = "model.layers.0.linear_attn.";
  EXPECT_THAT(segments, ElementsAre(prefix + "q_proj.weight", prefix + "k_proj.weight",
                                    prefix + "v_proj.weight", prefix + "z_proj.weight",
                                    prefix + "b_proj.weight", prefix + "a_proj.weight"));
  EXPECT_THAT(rows, ElementsAre(16, 16, 60, 60, 6, 6));
  EXPECT_EQ(in.shard, ShardAxis::kRows);
  EXPECT_THAT(layer[2].shape, ElementsAre(92, 1, 4));
  EXPECT_EQ(layer[2].segments[2].disk_name, prefix + "v_conv1d.weight");
  EXPECT_EQ(layer[2].segments[2].init, (InitRule{InitKind::kUniform, -0.5, 0.5}));
  EXPECT_EQ(layer[5].segments[0].init, (InitRule{InitKind::kLogUniform, 1.0, 16.0}));
  EXPECT_FALSE(layer[5].segments[0].decay);
  EXPECT_EQ(layer[7].shard, ShardAxis::kColumns);
}

TEST(GatedDeltaNet, CostByHand) {
  CostOptions options;
  options.context = 32;
  options.element_bytes = 2;
  const Cost layer = cost(hybrid(), options).layers[0];
  const double rule = 7.0 * 6 * 8 * 10 + 2.0 * 92 * 4;
  EXPECT_EQ(layer.attention_flops, rule);
  EXPECT_EQ(layer.decode_attention_flops, rule);
  EXPECT_EQ(layer.state_bytes_per_token, 0);
  EXPECT_EQ(layer.state_bytes_fixed, 6 * 8 * 10 * 4 + 92 * 3 * 2);
  EXPECT_EQ(layer.matmul_flops, 2.0 * (164 * 48 + 48 * 60 + 3 * 64 * 48));
}

TEST(GatedDeltaNet, WordsAndJson) {
  const LayerWords words = layer_words(hybrid({kLinear + "negative_eigenvalues=true"}).layers[0]);
  EXPECT_EQ(words.mixer, "gated_delta_net conv 4 beta 2");
  EXPECT_EQ(words.heads, "6:2");
  EXPECT_EQ(words.head_dim, "8/10");
  EXPECT_EQ(words.gate, "silu");
  EXPECT_EQ(layer_json(hybrid().layers[0])["num_key_heads"], 2);
}

TEST(GatedDeltaNet, Errors) {
  EXPECT_THAT(error_with({kLinear + "num_key_heads=4"}),
              HasSubstr("num_key_heads = 4: allowed a divisor of num_value_heads (= 6)"));
  EXPECT_THAT(error_with({kLinear + "conv_size=0"}), HasSubstr("conv_size = 0"));
  EXPECT_THAT(error_with({kLinear + "norm.kind=layer"}), HasSubstr("norm.kind = layer"));
  EXPECT_THAT(error_with({"model.blocks.linear.attention={num_heads: 4}"}),
              HasSubstr("model.blocks.linear.gated_delta_net: not allowed beside attention"));
  EXPECT_THAT(error_with({"model.blocks.linear.gated_delta_net=null"}),
              HasSubstr("model.blocks.linear.attention: missing; allowed a mapping, here or as "
                        "gated_delta_net"));
  EXPECT_THROW(delta_shard(mixer_of(hybrid(), 0), 4), ConfigError);
  EXPECT_EQ(delta_shard(mixer_of(hybrid(), 0), 2).num_value_heads, 3);
}

}  // namespace
}  // namespace headway::spec
