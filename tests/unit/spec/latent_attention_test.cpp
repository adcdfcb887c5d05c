// Latent attention in specs: widths, scales, parameters, costs, sharing of choices, Megatron's
// arguments, and what each rule says.
#include "headway/spec/latent_attention.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "headway/base/error.h"
#include "headway/spec/cost.h"
#include "headway/spec/layer_words.h"
#include "headway/spec/megatron.h"
#include "headway/spec/spec_json.h"
#include "headway/spec/tensor_inventory.h"

#include "tests/support/message_of.h"

namespace headway::spec {
namespace {

using testing::HasSubstr;

LatentAttentionSpec deepseek() {
  LatentAttentionSpec mixer;
  mixer.num_heads = 128;
  mixer.q_lora_rank = 1536;
  mixer.kv_lora_rank = 512;
  mixer.nope_head_dim = 128;
  mixer.rope_head_dim = 64;
  mixer.v_head_dim = 128;
  return mixer;
}

ModelSpec model_of(std::vector<LatentAttentionSpec> mixers, int64_t hidden = 12) {
  ModelSpec model;
  model.hidden_size = hidden;
  model.embedding.vocab_size = 4;
  model.head.tied = true;
  for (const LatentAttentionSpec& mixer : mixers) {
    LayerSpec layer;
    layer.block = "latent";
    layer.mixer = mixer;
    DenseMlpSpec mlp;
    mlp.intermediate_size = 8;
    layer.mlp = mlp;
    model.layers.push_back(layer);
  }
  return model;
}

std::string error_of(const ModelSpec& model) {
  return testing_support::message_of<ConfigError>([&] { validate(model); });
}

TEST(LatentScale, IsPlainWithoutYarnAndSquaredWithIt) {
  LatentAttentionSpec mixer = deepseek();
  EXPECT_NEAR(latent_scale(mixer), 0.0721688, 1e-7);
  mixer.rope->kind = RopeKind::kYarn;
  mixer.rope->factor = 40;
  EXPECT_NEAR(latent_scale(mixer), 0.0721688, 1e-7);
  mixer.rope->mscale_all_dim = 1.0;
  EXPECT_NEAR(latent_scale(mixer), 0.1352338, 1e-7);
  mixer.rope->factor = 1.0;
  EXPECT_NEAR(latent_scale(mixer), 0.0721688, 1e-7);
  mixer.scale = 0.5;
  EXPECT_EQ(latent_scale(mixer), 0.5);
}

/// spec/attention.md, appendix A.
TEST(LatentInventory, CountsTheParametersOfTheAppendix) {
  LatentAttentionSpec mixer = deepseek();
  mixer.num_heads = 4;
  mixer.q_lora_rank = mixer.kv_lora_rank = 32;
  mixer.latent_norm.reset();
  mixer.output_bias = true;
  int64_t count = 0;
  for (const TensorSpec& tensor : layer_tensors(model_of({mixer}), 0)) {
    if (tensor.name.find(".mixer.") != std::string::npos) count += tensor.numel();
  }
  EXPECT_EQ(count, 65036);
}

TEST(LatentInventory, NamesOnDiskAreThoseOfTheFamily) {
  LatentAttentionSpec mixer = deepseek();
  mixer.latent_bias = true;
  mixer.indexer = IndexerSpec{.num_heads = 64, .head_dim = 128, .top_k = 2048};
  std::map<std::string, std::vector<int64_t>> shapes;
  for (const TensorSpec& tensor : layer_tensors(model_of({mixer}, 7168), 0)) {
    for (const RowSegment& segment : tensor.segments) {
      shapes[segment.disk_name.substr(std::string("model.layers.0.").size())] =
          tensor.segment_shape(segment);
    }
  }
  using Shape = std::vector<int64_t>;
  EXPECT_EQ(shapes.at("self_attn.q_a_proj.weight"), (Shape{1536, 7168}));
  EXPECT_EQ(shapes.at("self_attn.q_a_proj.bias"), (Shape{1536}));
  EXPECT_EQ(shapes.at("self_attn.q_a_layernorm.weight"), (Shape{1536}));
  EXPECT_EQ(shapes.at("self_attn.q_b_proj.weight"), (Shape{128 * 192, 1536}));
  EXPECT_EQ(shapes.at("self_attn.kv_a_proj_with_mqa.weight"), (Shape{576, 7168}));
  EXPECT_EQ(shapes.at("self_attn.kv_a_layernorm.weight"), (Shape{512}));
  EXPECT_EQ(shapes.at("self_attn.kv_b_proj.weight"), (Shape{128 * 256, 512}));
  EXPECT_EQ(shapes.at("self_attn.o_proj.weight"), (Shape{7168, 16384}));
  EXPECT_EQ(shapes.at("self_attn.indexer.wq_b.weight"), (Shape{8192, 1536}));
  EXPECT_EQ(shapes.at("self_attn.indexer.wk.weight"), (Shape{128, 7168}));
  EXPECT_EQ(shapes.at("self_attn.indexer.k_norm.bias"), (Shape{128}));
  EXPECT_EQ(shapes.at("self_attn.indexer.weights_proj.weight"), (Shape{64, 7168}));
  EXPECT_FALSE(shapes.contains("self_attn.q_b_proj.bias"));
}

TEST(LatentCost, CachesLatentsAndReadsChosenKeys) {
  LatentAttentionSpec mixer = deepseek();
  CostOptions options;
  options.context = 4096;
  const Cost dense = cost(model_of({mixer}), options).layers[0];
  EXPECT_EQ(dense.state_bytes_per_token, 576 * 2);
  EXPECT_DOUBLE_EQ(dense.decode_attention_flops, 2.0 * 128 * (576 + 512) * 4097);
  mixer.indexer = IndexerSpec{.num_heads = 64, .head_dim = 128, .top_k = 1024};
  const Cost sparse = cost(model_of({mixer}), options).layers[0];
  EXPECT_EQ(sparse.state_bytes_per_token, (576 + 128) * 2);
  EXPECT_DOUBLE_EQ(sparse.decode_attention_flops,
                   2.0 * 128 * (576 + 512) * 1024 + 2.0 * 64 * 128 * 4097);
}

TEST(LatentSpec, SurvivesJsonAndSaysWhatItIs) {
  LatentAttentionSpec mixer = deepseek();
  mixer.indexer = IndexerSpec{.num_heads = 4, .head_dim = 128, .top_k = 256, .hadamard = true};
  const ModelSpec model = model_of({mixer});
  EXPECT_EQ(spec_from_json(to_json(model), "test"), model);
  const LayerWords words = layer_words(model.layers[0]);
  EXPECT_EQ(words.mixer, "latent_attention 512 q:1536 top 256 of 4x128 hadamard");
  EXPECT_EQ(words.head_dim, "128+64/128");
  const auto rows = cached_rows(model.layers[0]);
  EXPECT_EQ(rows->key_dim, 576);
  EXPECT_EQ(rows->value_dim, 128);
}

TEST(LatentSpec, RulesNameFieldValueAndLayer) {
  LatentAttentionSpec mixer = deepseek();
  mixer.shared_choice = true;
  EXPECT_THAT(error_of(model_of({mixer})),
              HasSubstr("model.layers[0].mixer.latent_attention.shared_choice = true: allowed only "
                        "behind a layer with an indexer"));
  LatentAttentionSpec owner = deepseek();
  owner.indexer = IndexerSpec{.num_heads = 2, .head_dim = 64, .top_k = 8};
  validate(model_of({owner, mixer}));
  mixer.indexer = owner.indexer;
  EXPECT_THAT(error_of(model_of({owner, mixer})), HasSubstr("only without an indexer of its own"));
  owner.indexer->head_dim = 32;
  EXPECT_THAT(error_of(model_of({owner})), HasSubstr("at least rope_head_dim (= 64)"));
  owner.indexer->head_dim = 96;
  owner.indexer->hadamard = true;
  EXPECT_THAT(error_of(model_of({owner})), HasSubstr("a power of two with hadamard"));
  owner.indexer->hadamard = false;
  owner.indexer->loss_keys = IndexLossKeys::kChosen;
  EXPECT_THAT(error_of(model_of({owner})), HasSubstr("loss_keys = chosen: allowed only with loss"));
  owner.indexer->loss = 0.1;
  owner.dropout = 0.1;
  EXPECT_THAT(error_of(model_of({owner})), HasSubstr("dropout = 0.1: allowed 0 where an indexer"));
  mixer = deepseek();
  mixer.rope_head_dim = 7;
  EXPECT_THAT(error_of(model_of({mixer})), HasSubstr("rope.fraction"));
}

Json arguments() {
  return {{"num_layers", 6},
          {"hidden_size", 32},
          {"num_attention_heads", 4},
          {"vocab_size", 16},
          {"multi_latent_attention", true},
          {"add_bias_linear", false},
          {"attention_dropout", 0.0}};
}

Json sparse_arguments() {
  Json json = arguments();
  json.update({{"experimental_attention_variant", "dsa"},
               {"dsa_indexer_n_heads", 2},
               {"dsa_indexer_head_dim", 128},
               {"dsa_indexer_topk", 16}});
  return json;
}

TEST(MegatronLatentArguments, DefaultsAreUpstreams) {
  const ModelSpec model = from_megatron(arguments());
  const LatentAttentionSpec& mixer = *latent_of(model.layers[0]);
  EXPECT_EQ(mixer.q_lora_rank, 512);
  EXPECT_EQ(mixer.kv_lora_rank, 512);
  EXPECT_EQ(mixer.rope->kind, RopeKind::kYarn);
  EXPECT_EQ(mixer.rope->factor, 40.0);
  // cos and sin are scaled, the softmax scale is not.
  EXPECT_NEAR(*mixer.rope->attention_factor, 1.3688879, 1e-7);
  EXPECT_NEAR(latent_scale(mixer), 0.0721688, 1e-7);
  EXPECT_FALSE(mixer.latent_norm.has_value());
  Json direct = arguments();
  direct["q_lora_rank"] = nullptr;
  direct["qk_layernorm"] = true;
  direct["rope_type"] = "rope";
  direct["rotary_scaling_factor"] = 40.0;
  direct["mscale_all_dim"] = 1.0;
  const ModelSpec other = from_megatron(direct);
  EXPECT_FALSE(latent_of(other.layers[0])->q_lora_rank.has_value());
  EXPECT_TRUE(latent_of(other.layers[0])->latent_norm.has_value());
  EXPECT_EQ(latent_of(other.layers[0])->rope->kind, RopeKind::kDefault);
  EXPECT_NEAR(latent_scale(*latent_of(other.layers[0])), 0.1352338, 1e-7);
}

/// spec/variants.md §2.5.
TEST(MegatronLatentArguments, ChoicesAreSharedByFrequencyAndOffset) {
  const auto owners = [](int64_t freq, int64_t offset) {
    Json json = sparse_arguments();
    json["num_layers"] = 10;
    json["dsa_indexer_topk_freq"] = freq;
    json["dsa_indexer_skip_topk_offset"] = offset;
    std::vector<int64_t> layers;
    const ModelSpec model = from_megatron(json);
    for (size_t i = 0; i < model.layers.size(); ++i) {
      if (latent_of(model.layers[i])->indexer) layers.push_back(static_cast<int64_t>(i) + 1);
    }
    return layers;
  };
  EXPECT_EQ(owners(4, 2), (std::vector<int64_t>{1, 2, 6, 10}));
  EXPECT_EQ(owners(4, 0), (std::vector<int64_t>{1, 5, 9}));
  EXPECT_EQ(owners(2, 3), (std::vector<int64_t>{1, 2, 3, 5, 7, 9}));
}

TEST(MegatronLatentArguments, RulesOfTheVariant) {
  const auto error = [](const std::string& field, const Json& value) {
    Json json = sparse_arguments();
    json[field] = value;
    return testing_support::message_of<ConfigError>([&] { from_megatron(json); });
  };
  EXPECT_THAT(error("multi_latent_attention", false), HasSubstr("multi_latent_attention = false"));
  EXPECT_THAT(error("qk_l2_norm", true), HasSubstr("qk_l2_norm = true: not allowed with"));
  Json biases = sparse_arguments();
  biases["add_bias_linear"] = true;
  EXPECT_THAT(testing_support::message_of<UnsupportedError>([&] { from_megatron(biases); }),
              HasSubstr("add_bias_linear = true: not allowed"));
  EXPECT_THAT(error("apply_rope_fusion", true), HasSubstr("apply_rope_fusion = true"));
  EXPECT_THAT(error("dsa_indexer_topk", nullptr), HasSubstr("dsa_indexer_topk: missing"));
  EXPECT_THAT(error("dsa_indexer_topk_freq", 0), HasSubstr("dsa_indexer_topk_freq = 0"));
  EXPECT_THAT(error("dsa_indexer_skip_topk_offset", -1), HasSubstr("dsa_indexer_skip_topk_offset"));
  EXPECT_THAT(error("rope_type", "mrope"), HasSubstr("rope_type"));
  EXPECT_THAT(error("dsa_kernel_backend", "triton"), HasSubstr("none | tilelang | cudnn"));
  EXPECT_THAT(error("rotary_interleaved", true), HasSubstr("rotary_interleaved = true"));
  Json gated = arguments();
  gated["attention_output_gate"] = true;
  EXPECT_THAT(testing_support::message_of<UnsupportedError>([&] { from_megatron(gated); }),
              HasSubstr("attention_output_gate = true"));
}

}  // namespace
}  // namespace headway::spec
