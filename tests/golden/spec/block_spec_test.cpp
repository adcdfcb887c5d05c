// Block specs against what Megatron-Core's builder returned (class names of its fused backend).
// Not for: errors (tests/unit/spec/block_spec_test.cpp).
#include "headway/spec/block_spec.h"

#include <filesystem>
#include <map>

#include <gtest/gtest.h>

namespace headway::spec {
namespace {

class BlockGolden : public testing::TestWithParam<const char*> {
 protected:
  Json golden() const {
    return parse_json_file(std::string(HEADWAY_TESTS_DIR) + "/golden/spec/" + GetParam() + ".json");
  }
};

TEST_P(BlockGolden, SlicesPatternsAndModules) {
  const Json expected = golden();
  const BlockArguments arguments = read_block_arguments(expected["config"]);
  EXPECT_EQ(Json(get_linear_attention_pattern(arguments)), expected["linear_attention_pattern"]);
  EXPECT_EQ(Json(get_moe_layer_pattern(arguments)), expected["moe_layer_pattern"]);

  Json slices = Json::array();
  Json modules = Json::object();
  for (const PipelinePlace& place : pipeline_places(arguments)) {
    const TransformerBlockSubmodules block =
        get_transformer_block_with_experimental_attention_variant_spec(arguments, place);
    slices.push_back(slice_json(block, place));
    for (const TransformerLayerModule& layer : block.layer_specs) {
      const TransformerLayerSubmodules& places = layer.submodules;
      modules["attention:" + places.self_attention->module] = module_json(*places.self_attention);
      modules["mlp:" + places.mlp->module] = module_json(*places.mlp);
    }
  }
  EXPECT_EQ(slices.dump(1), expected["slices"].dump(1));
  for (const auto& [name, module] : expected["full_specs"].items()) {
    EXPECT_EQ(modules[name].dump(1), module.dump(1)) << name;
  }
  EXPECT_EQ(modules.size(), expected["full_specs"].size());
}

TEST_P(BlockGolden, LayersOfAKindShareOneSpec) {
  const Json expected = golden();
  if (!expected.contains("attention_spec_shared_with")) GTEST_SKIP() << "not recorded";
  const auto layers = get_transformer_layer_with_experimental_attention_variant_spec(
      read_block_arguments(expected["config"]));
  for (size_t i = 0; i < layers.size(); ++i) {
    Json same = Json::array();
    for (size_t j = 0; j < layers.size(); ++j) {
      if (layers[i].submodules.self_attention == layers[j].submodules.self_attention)
        same.push_back(j);
    }
    EXPECT_EQ(same, expected["attention_spec_shared_with"][i]) << "layer " << i;
  }
}

INSTANTIATE_TEST_SUITE_P(Cases, BlockGolden,
                         testing::Values("dsa_pp2", "gdn_account_emb_loss", "gdn_freq4_moe",
                                         "gdn_list_dense", "gdn_moe2_pp2_vp2",
                                         "std_moe_list_pp4_uneven"));

}  // namespace
}  // namespace headway::spec
