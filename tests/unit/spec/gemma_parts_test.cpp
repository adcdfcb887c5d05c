// The parts of Gemma-4-like stacks from run files, in combinations of any kind: shared keys and
// values, head norms, per-layer embeddings, hybrid MLPs, norms one by one.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "headway/base/error.h"
#include "headway/spec/cost.h"
#include "headway/spec/describe.h"
#include "headway/spec/kv_sharing.h"
#include "headway/spec/spec_json.h"
#include "headway/spec/tensor_inventory.h"

#include "tests/unit/spec/specs.h"

namespace headway::spec {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr const char* kModel = R"(
model:
  hidden_size: 24
  tie_embeddings: true
  padding_id: 0
  per_layer_embedding: 4
  norms: {placement: sandwich, weight: fp32}
  blocks:
    local:
      attention:
        {num_heads: 4, num_kv_heads: 2, head_dim: 8, window: 6, qk_norm: true, v_norm: fixed}
      mlp: {intermediate_size: 16}
    wide:
      attention:
        {num_heads: 4, num_kv_heads: 2, head_dim: 8, window: 6, qk_norm: true, v_norm: fixed}
      mlp: {intermediate_size: 32}
      per_layer_input: false
    global:
      attention:
        {num_heads: 4, num_kv_heads: 1, head_dim: 12, q_norm: learned, shared_key_value: true}
      mlp: {intermediate_size: 16}
      moe: {num_experts: 4, top_k: 2, intermediate_size: 8,
            router: {input_norm: {weight: none}, input_scale: 0.5, input_weight: true,
                     expert_scale: true}}
      hybrid: {dense_pre_norm: true, routed_post_norm: true}
      norms: {pre_mlp: false, post_mixer: false}
  layers: [local, global, local, wide, global]
  num_kv_shared_layers: 2
)";

ModelSpec gemma(const std::vector<std::string>& overrides = {}) {
  return resolve(model_config(overrides, kModel), 256);
}

std::string error_of(const std::vector<std::string>& overrides) {
  try {
    gemma(overrides);
  } catch (const ConfigError& error) {
    return error.what();
  }
  return "no error";
}

TEST(GemmaParts, SharedLayersReadTheLastOfTheirKindWhateverTheirBlock) {
  const ModelSpec spec = gemma();
  EXPECT_EQ(kv_source_of(spec.layers[3]), 2);  // wide reads local, not the global before it
  EXPECT_EQ(kv_source_of(spec.layers[4]), 1);
  EXPECT_EQ(kv_source_of(spec.layers[2]), std::nullopt);
  EXPECT_THAT(kv_reader_counts(spec), ElementsAre(0, 1, 1, 0, 0));
  const AttentionSpec& reader = *attention_of(spec.layers[4]);
  EXPECT_FALSE(reader.shared_key_value || reader.k_norm || reader.v_norm);
  EXPECT_TRUE(reader.q_norm.has_value());
  EXPECT_EQ(
      gemma({"model.num_kv_shared_layers=0", "model.kv_source_per_layer=[null, null, 0, 0, 1]"})
          .layers[2],
      [] {
        LayerSpec layer = gemma().layers[2];
        read_kv_of(layer, 0);
        return layer;
      }());
}

TEST(GemmaParts, HeadNormsAndBlockNormsStandWhereTheyAreAskedFor) {
  const ModelSpec spec = gemma();
  const AttentionSpec& local = *attention_of(spec.layers[0]);
  EXPECT_EQ(local.v_norm->weight, NormWeight::kNone);
  EXPECT_EQ(local.k_norm->weight, NormWeight::kFp32);
  const AttentionSpec& global = *attention_of(spec.layers[1]);
  EXPECT_TRUE(global.q_norm && !global.k_norm && !global.v_norm && global.shared_key_value);
  EXPECT_TRUE(spec.layers[1].pre_mixer_norm && spec.layers[1].post_mlp_norm);
  EXPECT_FALSE(spec.layers[1].pre_mlp_norm || spec.layers[1].post_mixer_norm);
}

TEST(GemmaParts, PerLayerEmbeddingStatesItsFactors) {
  const ModelSpec spec = gemma();
  ASSERT_TRUE(spec.per_layer_embedding.has_value());
  const PerLayerEmbeddingSpec& table = *spec.per_layer_embedding;
  EXPECT_EQ(table.vocab_size, 256);
  EXPECT_EQ(table.scale, 2.0);
  EXPECT_DOUBLE_EQ(table.context_scale, 1 / std::sqrt(24.0));
  EXPECT_DOUBLE_EQ(table.mix_scale, std::sqrt(0.5));
  EXPECT_EQ(table.padding_id, 0);
  EXPECT_EQ(per_layer_count(spec), 4);
  EXPECT_FALSE(spec.layers[3].per_layer_input.has_value());
  EXPECT_EQ(spec.layers[0].per_layer_input->activation, Activation::kGeluTanh);
}

TEST(GemmaParts, InventoryHasWhatEachLayerOwns) {
  std::map<std::string, std::vector<int64_t>> shapes;
  for (const TensorSpec& tensor : tensors(gemma())) {
    for (const RowSegment& segment : tensor.segments) {
      shapes[segment.disk_name] = tensor.segment_shape(segment);
    }
    EXPECT_EQ(tensor.row_sparse, tensor.name == "per_layer.table.weight") << tensor.name;
  }
  const auto shape = [&](const std::string& name) {
    return shapes.contains(name) ? shapes[name] : std::vector<int64_t>{};
  };
  const std::string one = "model.layers.1.", three = "model.layers.3.";
  EXPECT_THAT(shape("model.embed_tokens_per_layer.weight"), ElementsAre(256, 16));
  EXPECT_THAT(shape("model.per_layer_model_projection.weight"), ElementsAre(16, 24));
  EXPECT_THAT(shape("model.per_layer_projection_norm.weight"), ElementsAre(4));
  EXPECT_THAT(shape(one + "self_attn.k_proj.weight"), ElementsAre(12, 24));
  EXPECT_THAT(shape(one + "self_attn.v_proj.weight"), ElementsAre());
  EXPECT_THAT(shape(one + "per_layer_input_gate.weight"), ElementsAre(4, 24));
  EXPECT_THAT(shape(one + "mlp.gate.input_weight"), ElementsAre(24));
  EXPECT_THAT(shape(one + "mlp.gate.expert_scale"), ElementsAre(4));
  EXPECT_THAT(shape(one + "mlp.experts.3.down_proj.weight"), ElementsAre(24, 8));
  EXPECT_THAT(shape(one + "pre_feedforward_layernorm_1.weight"), ElementsAre(24));
  EXPECT_THAT(shape(one + "pre_feedforward_layernorm.weight"), ElementsAre());
  EXPECT_THAT(shape(three + "self_attn.k_proj.weight"), ElementsAre());
  EXPECT_THAT(shape(three + "self_attn.k_norm.weight"), ElementsAre());
  EXPECT_THAT(shape(three + "mlp.up_proj.weight"), ElementsAre(32, 24));
  EXPECT_THAT(shape(three + "per_layer_input_gate.weight"), ElementsAre());
}

TEST(GemmaParts, JsonRoundTripAndWords) {
  const ModelSpec spec = gemma();
  EXPECT_TRUE(spec_from_json(to_json(spec), "test") == spec);
  const std::string text = describe_text(spec);
  for (const char* words : {"per-layer embedding 4 x 4", "of 2", "k=v", "v-norm", "|| 2 of 4",
                            "own-input", "expert-scale", "per-layer-input"}) {
    EXPECT_THAT(text, HasSubstr(words));
  }
}

TEST(GemmaParts, ReadersCostNoStateAndLookUpsNoFlops) {
  const ModelCost costs = cost(gemma(), {.context = 64, .element_bytes = 2});
  EXPECT_EQ(costs.layers[3].state_bytes(64) + costs.layers[4].state_bytes(64), 0);
  EXPECT_EQ(costs.layers[1].state_bytes_per_token, (12 + 12) * 2);
  EXPECT_GT(costs.layers[4].attention_flops, 0);
  EXPECT_EQ(costs.embedding.parameters, 256 * 24 + 256 * 16 + 16 * 24 + 4);
  EXPECT_DOUBLE_EQ(costs.embedding.matmul_flops, 2.0 * 16 * 24);
}

TEST(GemmaParts, ErrorsNameTheField) {
  const std::string blocks = "model.blocks.";
  EXPECT_THAT(error_of({"model.num_kv_shared_layers=5"}),
              HasSubstr("model.num_kv_shared_layers = 5, allowed less than the number of layers"));
  EXPECT_THAT(error_of({"model.num_kv_shared_layers=4"}), HasSubstr("layer 1 (block global)"));
  EXPECT_THAT(error_of({"model.kv_source_per_layer=[null]"}),
              HasSubstr("not allowed beside num_kv_shared_layers"));
  const std::vector<std::string> bad = {"[null, null, 2, null, null]",
                                        "[null, null, 1, null, null]", "[null, null, 0, 2, null]"};
  for (const std::string& list : bad) {
    EXPECT_THAT(error_of({"model.num_kv_shared_layers=0", "model.kv_source_per_layer=" + list}),
                HasSubstr("kv_source = "))
        << list;
  }
  EXPECT_THAT(error_of({"model.num_kv_shared_layers=0", "model.kv_source_per_layer=[null]"}),
              HasSubstr("1 entries: allowed one a layer (= 5)"));
  EXPECT_THAT(error_of({blocks + "global.hybrid=null"}), HasSubstr("not allowed beside mlp"));
  EXPECT_THAT(error_of({blocks + "global.moe=null"}), HasSubstr("only with both mlp and moe"));
  EXPECT_THAT(error_of({"model.per_layer_embedding=null", blocks + "local.per_layer_input=true"}),
              HasSubstr("only with model.per_layer_embedding"));
  EXPECT_THAT(error_of({blocks + "global.attention.v_head_dim=6"}),
              HasSubstr("v_head_dim = 6: allowed head_dim (= 12) with shared_key_value"));
  EXPECT_THAT(error_of({blocks + "local.attention.bidirectional_spans=true",
                        blocks + "local.attention.mask=none"}),
              HasSubstr("bidirectional_spans = true: allowed only with mask causal"));
  EXPECT_THAT(error_of({"model.padding_id=256"}), HasSubstr("an id below vocab_size (= 256)"));
  EXPECT_THAT(error_of({"model.norms.kind=layer", "model.norms.weight=plain"}),
              HasSubstr("model.per_layer_embedding.norm.kind = layer: allowed rms"));
}

}  // namespace
}  // namespace headway::spec
