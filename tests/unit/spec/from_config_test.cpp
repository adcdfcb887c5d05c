// Patterns and defaults resolved into explicit layers.
#include "headway/spec/from_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "headway/base/error.h"

#include "tests/unit/spec/specs.h"

namespace headway::spec {
namespace {

using ::testing::HasSubstr;

std::vector<std::string> block_names(const ModelSpec& spec) {
  std::vector<std::string> names;
  for (const LayerSpec& layer : spec.layers) names.push_back(layer.block);
  return names;
}

const std::string kLocal = "model.blocks.local.";

TEST(Resolve, RepeatsThePatternAndCutsIt) {
  EXPECT_THAT(block_names(mixed_spec()),
              testing::ElementsAre("global", "local", "local", "local", "global", "local"));
  EXPECT_THAT(block_names(mixed_spec(
                  {"model.layers=[local, global]", "model.pattern=[]", "model.num_layers=null"})),
              testing::ElementsAre("local", "global"));
  const auto one = model_config(
      {},
      "model: {hidden_size: 8, num_layers: 3, blocks: {only: {attention: {num_heads: 2}, "
      "mlp: {intermediate_size: 4}}}}");
  EXPECT_THAT(block_names(resolve(one, 256)), testing::ElementsAre("only", "only", "only"));
}

TEST(Resolve, StatesEveryLayer) {
  const ModelSpec spec = mixed_spec();
  const AttentionSpec& global = *attention_of(spec.layers[0]);
  const AttentionSpec& local = *attention_of(spec.layers[1]);
  EXPECT_EQ(global.num_heads, 4);
  EXPECT_EQ(local.num_heads, 6);
  EXPECT_EQ(local.num_kv_heads, 2);
  EXPECT_EQ(global.rope->base, 5e6);
  EXPECT_EQ(global.rope->fraction, 0.5);
  EXPECT_EQ(global.window, std::nullopt);
  EXPECT_EQ(local.window, 8);
  EXPECT_EQ(global.scale, 0.25);
  EXPECT_EQ(global.v_head_dim, 16);
  EXPECT_EQ(global.gate.kind, GateKind::kHeadWise);
  EXPECT_FALSE(global.gate_bias);
  EXPECT_EQ(spec.layers[0].pre_mixer_norm, NormSpec{});
  EXPECT_EQ(spec.layers[0].post_mixer_norm, std::nullopt);
  EXPECT_EQ(spec.head.final_norm, NormSpec{});
  EXPECT_TRUE(spec.head.tied);
  EXPECT_EQ(spec.embedding.vocab_size, 256);
  EXPECT_EQ(spec.hidden_size, 48);
  EXPECT_FALSE(spec.rope_per_layer);
}

TEST(Resolve, DerivesWhatABlockLeavesOpen) {
  const auto spec = resolve(
      model_config(
          {},
          "model: {hidden_size: 24, num_layers: 1, vocab_size: 300, blocks: {b: {attention: "
          "{num_heads: 4}, mlp: {intermediate_size: 4}}}}"),
      256);
  const AttentionSpec& attention = *attention_of(spec.layers[0]);
  EXPECT_EQ(attention.num_kv_heads, 4);
  EXPECT_EQ(attention.head_dim, 6);
  EXPECT_EQ(attention.v_head_dim, 6);
  EXPECT_DOUBLE_EQ(attention.scale, 1.0 / std::sqrt(6.0));
  EXPECT_EQ(attention.rope, RopeSpec{});
  EXPECT_EQ(spec.embedding.vocab_size, 300);
}

TEST(Resolve, GatesNormsAndScalars) {
  const ModelSpec spec =
      mixed_spec({"model.norms={placement: sandwich, weight: zero_centered, eps: 1e-6}",
                  kLocal + "norms={placement: pre, weight: plain}",
                  kLocal + "attention.gate={kind: element_wise, init: constant, value: 3}",
                  kLocal + "attention.qk_norm=true", kLocal + "layer_scalar=true",
                  "model.embedding_scale=7", "model.final_softcap=30"});
  const NormSpec outer{NormKind::kRms, NormWeight::kZeroCentered, 1e-6, false};
  const NormSpec inner{NormKind::kRms, NormWeight::kPlain, 1e-6, false};
  EXPECT_EQ(spec.layers[0].post_mlp_norm, outer);
  EXPECT_EQ(spec.layers[1].post_mlp_norm, std::nullopt);
  EXPECT_EQ(spec.layers[1].pre_mlp_norm, inner);
  EXPECT_EQ(attention_of(spec.layers[1])->q_norm, inner);
  EXPECT_EQ(attention_of(spec.layers[0])->q_norm, std::nullopt);
  EXPECT_TRUE(attention_of(spec.layers[1])->gate_bias);
  EXPECT_EQ(attention_of(spec.layers[1])->gate.init_value, 3);
  EXPECT_TRUE(spec.layers[1].layer_scalar);
  EXPECT_EQ(spec.head.final_norm, outer);
  EXPECT_EQ(spec.head.softcap, 30);
  EXPECT_EQ(spec.embedding.scale, 7);
}

TEST(Resolve, BasePerLayerReplacesTheBlocksBase) {
  const ModelSpec spec = mixed_spec({"model.rotary_base_per_layer=[1, 2, 3, 4, 5, 6]"});
  EXPECT_TRUE(spec.rope_per_layer);
  for (size_t i = 0; i < 6; ++i) EXPECT_EQ(attention_of(spec.layers[i])->rope->base, i + 1.0);
  const ModelSpec skipped =
      mixed_spec({"model.rotary_base_per_layer=[1, null, null, null, 5, null]",
                  kLocal + "attention.rope=none"});
  EXPECT_EQ(attention_of(skipped.layers[1])->rope, std::nullopt);
  EXPECT_EQ(attention_of(skipped.layers[4])->rope->base, 5.0);
}

template <class E>
std::string error_of(const config::ModelConfig& model, int64_t vocab_size = 256) {
  try {
    resolve(model, vocab_size);
  } catch (const E& error) {
    return error.what();
  }
  return "nothing thrown";
}

TEST(Resolve, RefusesWhatTheConfigRulesRefuse) {
  config::ModelConfig model = model_config();
  model.rotary_base_per_layer = {{1e4, 1e4}};
  EXPECT_EQ(
      error_of<ConfigError>(model),
      "model.rotary_base_per_layer: rotary_base_per_layer length (2) must equal num_layers (6)");
  model = model_config();
  model.blocks.at("local").attention->num_kv_heads = 4;
  EXPECT_EQ(error_of<ConfigError>(model),
            kLocal + "attention.num_kv_heads = 4: allowed a divisor of num_heads (= 6)");
}

TEST(Resolve, VocabularyMustHoldTheTokenizer) {
  EXPECT_EQ(error_of<ConfigError>(model_config({"model.vocab_size=100"})),
            "model.vocab_size = 100: allowed at least the size of tokenizer bytes (= 256)");
}

TEST(Resolve, OtherFrontDoorsAreNotItsOwn) {
  EXPECT_THAT(error_of<ConfigError>(model_config({"model={hf: folder}"})),
              HasSubstr("model.hf = folder: allowed a model described by blocks"));
  EXPECT_THAT(error_of<ConfigError>(model_config({"model={megatron: {num_layers: 1}}"})),
              HasSubstr("model.megatron.hidden_size: missing"));
  EXPECT_THAT(error_of<ConfigError>(model_config(
                  {"model={tie_embeddings: true, megatron: {num_layers: 1, hidden_size: 8, "
                   "num_attention_heads: 2}}"})),
              HasSubstr("tie_embeddings: false -> true: not allowed beside megatron"));
  const ModelSpec spec = resolve(
      model_config({"model={megatron: {num_layers: 1, hidden_size: 8, num_attention_heads: 2}}"}),
      256);
  EXPECT_EQ(spec.embedding.vocab_size, 256);
}

}  // namespace
}  // namespace headway::spec
