// Families with latent attention: keys, how layers choose keys, and what they cannot hold.
#include <functional>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "headway/io/hf/family.h"
#include "headway/spec/latent_attention.h"

#include "tests/unit/io/family_configs.h"

namespace headway::io {
namespace {

using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

Json golden(const std::string& name) {
  return parse_json_file(std::string(HEADWAY_TESTS_DIR) + "/golden/hf/" + name + "/config.json");
}

const spec::LatentAttentionSpec& mixer_of(const spec::ModelSpec& spec, size_t layer = 0) {
  return *spec::latent_of(spec.layers.at(layer));
}

/// Layers that choose keys themselves.
std::vector<size_t> choosing(const Json& config) {
  std::vector<size_t> layers;
  const spec::ModelSpec spec = read_spec(config);
  for (size_t i = 0; i < spec.layers.size(); ++i) {
    if (mixer_of(spec, i).indexer) layers.push_back(i);
  }
  return layers;
}

TEST(LatentFamilies, PublishedAndSavedSpellingsAreOneModel) {
  Json saved = golden("deepseek_v3");
  Json published = saved;
  published["rope_theta"] = 10000.0;
  published["rope_scaling"] = published["rope_parameters"];
  published["rope_scaling"]["type"] = "yarn";
  published["rope_scaling"].erase("rope_type");
  published["rope_scaling"].erase("rope_theta");
  published.erase("rope_parameters");
  published["scoring_func"] = "sigmoid";
  published["topk_method"] = "noaux_tc";
  EXPECT_EQ(read_spec(published), read_spec(saved));
  // Stale in published files: the width is that of the rotated channels.
  published["head_dim"] = 999;
  EXPECT_EQ(read_spec(published), read_spec(saved));
}

TEST(LatentFamilies, KeysSayTheLayers) {
  Json config = golden("deepseek_v3");
  spec::ModelSpec spec = read_spec(config);
  EXPECT_EQ(mixer_of(spec).rope->layout, spec::RopeLayout::kInterleaved);
  EXPECT_EQ(mixer_of(spec).latent_norm->eps, 1e-6);
  EXPECT_EQ(spec::moe_of(spec.layers[0]), nullptr);
  EXPECT_EQ(spec::moe_of(spec.layers[1])->best_of_group(), 2);
  config["rope_interleave"] = false;
  config["q_lora_rank"] = nullptr;
  config["attention_bias"] = true;
  config["first_k_dense_replace"] = 2;
  spec = read_spec(config);
  EXPECT_EQ(mixer_of(spec).rope->layout, spec::RopeLayout::kHalf);
  EXPECT_FALSE(mixer_of(spec).q_lora_rank.has_value());
  EXPECT_TRUE(mixer_of(spec).latent_bias && mixer_of(spec).output_bias);
  EXPECT_EQ(spec::moe_of(spec.layers[1]), nullptr);
  EXPECT_NE(spec::moe_of(spec.layers[2]), nullptr);
  config.erase("q_lora_rank");
  EXPECT_THAT(config_error(config), HasSubstr("q_lora_rank"));
}

TEST(LatentFamilies, NextTokenLayersStandBehindTheStack) {
  for (const char* name : {"deepseek_v3", "glm_moe_dsa"}) {
    Json config = golden(name);
    config["num_nextn_predict_layers"] = 1;
    const spec::ModelSpec spec = read_spec(config);
    ASSERT_TRUE(spec.mtp.has_value());
    EXPECT_EQ(spec.layers.size(), 4u);
    EXPECT_NE(spec::moe_of(spec.mtp->layers[0]), nullptr);
    EXPECT_EQ(spec.mtp->own_head, std::string(name) == "deepseek_v3");
    const Family& family = find_family(config["model_type"].get<std::string>());
    EXPECT_EQ(canonical_spec(read_spec(export_config(family, spec, {}))), canonical_spec(spec));
  }
}

TEST(LatentFamilies, IndexersAreInEveryLayerOrShared) {
  Json config = golden("deepseek_v32_sparse");
  EXPECT_THAT(choosing(config), ElementsAre(0, 1, 2, 3));
  EXPECT_EQ(mixer_of(read_spec(config)).indexer->rope_layout, spec::RopeLayout::kHalf);
  config = golden("glm_moe_dsa");
  EXPECT_THAT(choosing(config), ElementsAre(0, 2));
  EXPECT_EQ(mixer_of(read_spec(config)).indexer->rope_layout, spec::RopeLayout::kInterleaved);
  config.erase("indexer_types");
  EXPECT_THAT(choosing(config), ElementsAre(0, 2));
  config["index_topk_freq"] = 4;
  config["index_skip_topk_offset"] = 3;
  EXPECT_THAT(choosing(config), ElementsAre(0, 1, 2));
  config["index_topk_pattern"] = "FSSF";
  EXPECT_THAT(choosing(config), ElementsAre(0, 3));
  config["index_topk_pattern"] = "FS";
  EXPECT_THAT(config_error(config), HasSubstr("index_topk_pattern"));
  config["index_topk_pattern"] = "SFFF";
  EXPECT_THAT(config_error(config), HasSubstr("full for layer 0"));
}

TEST(LatentFamilies, WrongKeysAreNamed) {
  const auto error = [](const char* family, const char* key, const Json& value) {
    Json config = golden(family);
    config[key] = value;
    return config_error(config);
  };
  EXPECT_THAT(error("deepseek_v3", "num_key_value_heads", 2), HasSubstr("num_key_value_heads"));
  EXPECT_THAT(error("deepseek_v3", "scoring_func", "softmax"), HasSubstr("sigmoid"));
  EXPECT_THAT(error("deepseek_v3", "topk_method", "greedy"), HasSubstr("noaux_tc"));
  EXPECT_THAT(error("deepseek_v32_sparse", "q_lora_rank", nullptr), HasSubstr("q_lora_rank"));
  EXPECT_THAT(error("deepseek_v32_sparse", "mlp_layer_types", {"dense", "moe", "moe", "moe"}),
              HasSubstr("dense | sparse"));
  EXPECT_THAT(error("deepseek_v32_sparse", "layer_types", {"a", "b", "c", "d"}),
              HasSubstr("indexed_attention in every layer"));
  EXPECT_THAT(error("glm_moe_dsa", "indexer_types", {"full", "full"}), HasSubstr("a list of 4"));
  EXPECT_THAT(error("glm_moe_dsa", "indexer_types", {"full", "some", "full", "full"}),
              HasSubstr("full | shared"));
  EXPECT_THAT(error("glm_moe_dsa", "indexer_rope_interleave", false),
              HasSubstr("indexer_rope_interleave"));
}

TEST(LatentFamilies, ExportRefusesWhatTheyCannotSay) {
  using Change = std::function<void(spec::LatentAttentionSpec&)>;
  struct Row {
    Change change;
    const char* reason;
  };
  const std::vector<Row> rows = {
      {[](auto& m) { m.indexer->hadamard = true; }, "Hadamard"},
      {[](auto& m) { m.indexer->precision = spec::IndexPrecision::kFp8; }, "8-bit index scores"},
      {[](auto& m) { m.indexer->relu = false; }, "without relu"},
      {[](auto& m) { m.indexer->norm_eps = 1e-5; }, "eps of the indexer's norm"},
      {[](auto& m) { m.indexer->rope_layout = spec::RopeLayout::kInterleaved; }, "rotary layout"},
      {[](auto& m) { m.indexer.reset(); }, "no indexer"},
      {[](auto& m) { m.latent_norm.reset(); }, "latent norms other"},
      {[](auto& m) { m.latent_bias = true; }, "a bias on only one"},
      {[](auto& m) { m.scale = 0.5; }, "another attention scale"},
      {[](auto& m) { m.rope.reset(); }, "without rotary positions"},
      {[](auto& m) { m.rope->layout = spec::RopeLayout::kHalf; }, "rotary halves"},
      {[](auto& m) { m.q_lora_rank.reset(); }, "queries without a latent"},
      {[](auto& m) { m.v_head_dim += 1; }, "another latent attention than layer 0"}};
  for (const Row& row : rows) {
    spec::ModelSpec spec = read_spec(golden("deepseek_v32_sparse"));
    row.change(std::get<spec::LatentAttentionSpec>(spec.layers[2].mixer));
    EXPECT_THAT(reasons_against(deepseek_v32_family(), spec), Contains(HasSubstr(row.reason)));
  }
  const spec::ModelSpec sparse = read_spec(golden("deepseek_v32_sparse"));
  EXPECT_THAT(reasons_against(deepseek_v32_family(), sparse), IsEmpty());
  EXPECT_THAT(reasons_against(deepseek_v3_family(), sparse),
              ElementsAre("layers 0, 1, 2, 3: an indexer"));
  EXPECT_THAT(reasons_against(deepseek_v32_family(), read_spec(golden("glm_moe_dsa"))),
              Contains(HasSubstr("shared between layers")));
  EXPECT_THAT(reasons_against(find_family("llama"), sparse), Contains(HasSubstr("latent")));
  const spec::ModelSpec plain = read_spec(config_of("llama"));
  EXPECT_THAT(reasons_against(deepseek_v3_family(), plain),
              Contains(HasSubstr("grouped-query attention")));
}

/// What is written is what is read, with nothing of the original at hand.
TEST(LatentFamilies, WrittenConfigsAreTheModel) {
  for (const char* name : {"deepseek_v3", "deepseek_v32_sparse", "glm_moe_dsa"}) {
    const Json config = golden(name);
    spec::ModelSpec spec = read_spec(config);
    const Family& family = find_family(config["model_type"].get<std::string>());
    EXPECT_EQ(canonical_spec(read_spec(export_config(family, spec, {}))), canonical_spec(spec));
    spec.layers.resize(1);  // dense MLPs only
    EXPECT_EQ(canonical_spec(read_spec(export_config(family, spec, {}))), canonical_spec(spec));
  }
}

}  // namespace
}  // namespace headway::io
