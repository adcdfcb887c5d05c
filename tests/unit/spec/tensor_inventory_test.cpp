// The inventory: names, shapes, segments and their rules.
#include "headway/spec/tensor_inventory.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "headway/base/error.h"

#include "tests/unit/spec/specs.h"

namespace headway::spec {
namespace {

using ::testing::ElementsAre;

const TensorSpec& find(const std::vector<TensorSpec>& all, const std::string& name) {
  for (const TensorSpec& tensor : all) {
    if (tensor.name == name) return tensor;
  }
  throw std::runtime_error("no tensor " + name);
}

std::vector<std::string> names_of(const std::vector<TensorSpec>& all) {
  std::vector<std::string> names;
  for (const TensorSpec& tensor : all) names.push_back(tensor.name);
  return names;
}

std::vector<std::string> disk_names(const TensorSpec& tensor) {
  std::vector<std::string> names;
  for (const RowSegment& segment : tensor.segments) names.push_back(segment.disk_name);
  return names;
}

const std::string kLocal = "model.blocks.local.";

TEST(Inventory, OneLayerInOrder) {
  EXPECT_THAT(names_of(layer_tensors(mixed_spec(), 1)),
              ElementsAre("layers.1.pre_mixer_norm.weight", "layers.1.mixer.qkv.weight",
                          "layers.1.mixer.out.weight", "layers.1.pre_mlp_norm.weight",
                          "layers.1.mlp.up.weight", "layers.1.mlp.down.weight"));
  const auto all = names_of(tensors(mixed_spec()));
  EXPECT_EQ(all.front(), "embedding.weight");
  EXPECT_EQ(all.back(), "final_norm.weight");
  EXPECT_EQ(names_of(tensors(mixed_spec({"model.tie_embeddings=false"}))).back(), "head.weight");
}

TEST(Inventory, FusedProjectionIsNamedSegments) {
  const auto layer = layer_tensors(mixed_spec(), 1);
  const TensorSpec& qkv = find(layer, "layers.1.mixer.qkv.weight");
  EXPECT_THAT(qkv.shape, ElementsAre(6 * 16 + 2 * 16 + 2 * 16 + 6, 48));
  EXPECT_EQ(qkv.shard, ShardAxis::kRows);
  EXPECT_EQ(qkv.layer, 1);
  ASSERT_EQ(qkv.segments.size(), 4u);
  EXPECT_EQ(qkv.segments[3].name, "gate");
  EXPECT_EQ(qkv.segments[3].begin, 160);
  EXPECT_EQ(qkv.segments[3].rows, 6);
  EXPECT_TRUE(qkv.segments[3].decay);
  EXPECT_THAT(disk_names(qkv), ElementsAre("model.layers.1.self_attn.q_proj.weight",
                                           "model.layers.1.self_attn.k_proj.weight",
                                           "model.layers.1.self_attn.v_proj.weight",
                                           "model.layers.1.self_attn.g_proj.weight"));
  EXPECT_THAT(qkv.segment_shape(qkv.segments[1]), ElementsAre(32, 48));
  EXPECT_EQ(qkv.numel(), 166 * 48);
  EXPECT_EQ(find(layer, "layers.1.mixer.out.weight").shard, ShardAxis::kColumns);
}

TEST(Inventory, InitRules) {
  const ModelSpec spec =
      mixed_spec({kLocal + "attention.gate={kind: head_wise, init: constant, value: 3}",
                  "model.norms.weight=zero_centered"});
  const auto all = tensors(spec);
  const double residual = 0.02 / std::sqrt(12.0);
  EXPECT_EQ(find(all, "layers.1.mixer.qkv.weight").segments[0].init,
            (InitRule{InitKind::kNormal, 0.02}));
  EXPECT_EQ(find(all, "layers.1.mixer.qkv.weight").segments[3].init.kind, InitKind::kZeros);
  const TensorSpec& bias = find(all, "layers.1.mixer.qkv.bias");
  EXPECT_THAT(bias.shape, ElementsAre(6));
  ASSERT_EQ(bias.segments.size(), 1u);
  EXPECT_EQ(bias.segments[0].name, "gate");
  EXPECT_EQ(bias.segments[0].init, (InitRule{InitKind::kConstant, 3}));
  EXPECT_EQ(bias.segments[0].disk_name, "model.layers.1.self_attn.g_proj.bias");
  EXPECT_EQ(find(all, "layers.0.mixer.out.weight").segments[0].init,
            (InitRule{InitKind::kNormal, residual}));
  EXPECT_EQ(find(all, "layers.0.mlp.down.weight").segments[0].init,
            (InitRule{InitKind::kNormal, residual}));
  EXPECT_EQ(find(all, "layers.0.pre_mixer_norm.weight").segments[0].init.kind, InitKind::kZeros);
  EXPECT_EQ(find(tensors(mixed_spec()), "final_norm.weight").segments[0].init.kind,
            InitKind::kOnes);
  const auto flat = tensors(mixed_spec({"model.init.scale_residual=false"}));
  EXPECT_EQ(find(flat, "layers.0.mlp.down.weight").segments[0].init,
            (InitRule{InitKind::kNormal, 0.02}));
}

TEST(Inventory, DecayOnMatricesButNotOnEmbeddingsNormsAndBiases) {
  const auto all =
      tensors(mixed_spec({kLocal + "attention.qkv_bias=true", kLocal + "attention.output_bias=true",
                          kLocal + "mlp.bias=true", kLocal + "attention.sinks=learnable",
                          kLocal + "attention.qk_norm=true", "model.tie_embeddings=false"}));
  for (const TensorSpec& tensor : all) {
    const bool expected = tensor.shape.size() == 2 && tensor.name != "embedding.weight";
    for (const RowSegment& segment : tensor.segments)
      EXPECT_EQ(segment.decay, expected) << segment.disk_name;
  }
}

TEST(Inventory, BiasesSinksAndHeadNorms) {
  const auto layer = layer_tensors(
      mixed_spec({kLocal + "attention.qkv_bias=true", kLocal + "attention.gate_bias=false",
                  kLocal + "attention.output_bias=true", kLocal + "mlp.bias=true",
                  kLocal + "attention.sinks=learnable", kLocal + "attention.qk_norm=true",
                  kLocal + "attention.v_head_dim=8", kLocal + "layer_scalar=true"}),
      1);
  EXPECT_THAT(find(layer, "layers.1.mixer.qkv.bias").shape, ElementsAre(6 * 16 + 2 * 16 + 2 * 8));
  EXPECT_EQ(find(layer, "layers.1.mixer.qkv.bias").segments.size(), 3u);
  EXPECT_THAT(find(layer, "layers.1.mixer.out.weight").shape, ElementsAre(48, 48));
  EXPECT_EQ(find(layer, "layers.1.mixer.out.bias").shard, ShardAxis::kNone);
  EXPECT_THAT(find(layer, "layers.1.mixer.q_norm.weight").shape, ElementsAre(16));
  EXPECT_THAT(disk_names(find(layer, "layers.1.mixer.sinks")),
              ElementsAre("model.layers.1.self_attn.sinks"));
  EXPECT_THAT(find(layer, "layers.1.mlp.up.bias").shape, ElementsAre(128));
  EXPECT_FALSE(find(layer, "layers.1.layer_scalar").trainable);
}

TEST(Inventory, ElementWiseGateHasARowAChannel) {
  const auto layer = layer_tensors(
      mixed_spec({kLocal + "attention.gate=element_wise", kLocal + "attention.v_head_dim=8"}), 1);
  EXPECT_EQ(find(layer, "layers.1.mixer.qkv.weight").segments[3].rows, 6 * 8);
}

TEST(Inventory, SandwichNormsTakeGemmasNames) {
  const auto layer = layer_tensors(mixed_spec({"model.norms=sandwich"}), 0);
  EXPECT_THAT(disk_names(find(layer, "layers.0.post_mixer_norm.weight")),
              ElementsAre("model.layers.0.post_attention_layernorm.weight"));
  EXPECT_THAT(disk_names(find(layer, "layers.0.pre_mlp_norm.weight")),
              ElementsAre("model.layers.0.pre_feedforward_layernorm.weight"));
  EXPECT_THAT(disk_names(find(layer, "layers.0.post_mlp_norm.weight")),
              ElementsAre("model.layers.0.post_feedforward_layernorm.weight"));
  const auto plain = layer_tensors(mixed_spec(), 0);
  EXPECT_THAT(disk_names(find(plain, "layers.0.pre_mlp_norm.weight")),
              ElementsAre("model.layers.0.post_attention_layernorm.weight"));
}

TEST(Inventory, UngatedMlpAndLayerNorm) {
  const auto layer = layer_tensors(mixed_spec({kLocal + "mlp={intermediate_size: 10, gated: false}",
                                               "model.norms={kind: layer, bias: true}"}),
                                   1);
  EXPECT_THAT(disk_names(find(layer, "layers.1.mlp.up.weight")),
              ElementsAre("model.layers.1.mlp.up_proj.weight"));
  EXPECT_THAT(find(layer, "layers.1.mlp.up.weight").shape, ElementsAre(10, 48));
  EXPECT_THAT(find(layer, "layers.1.pre_mixer_norm.bias").shape, ElementsAre(48));
}

TEST(Inventory, SizesThatDoNotFitAreAnError) {
  TensorSpec tensor;
  tensor.name = "big";
  tensor.shape = {INT64_MAX, 2};
  EXPECT_THROW(tensor.numel(), ConfigError);
}

}  // namespace
}  // namespace headway::spec
