// Patterns, modules and backends of block specs, and every error of theirs.
// Not for: pipeline slices (pipeline_test.cpp) or upstream's own results (tests/golden/spec).
#include "headway/spec/block_spec.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "headway/base/error.h"

namespace headway::spec {
namespace {

using testing::AllOf;
using testing::HasSubstr;

using Pattern = std::vector<int64_t>;

BlockArguments arguments(const Json& changes = Json::object()) {
  Json all = {{"num_layers", 6}, {"normalization", "RMSNorm"}};
  for (const auto& [key, value] : changes.items()) all[key] = value;
  return read_block_arguments(all);
}

BlockArguments linear(const Json& freq, int64_t layers = 6) {
  return arguments({{"num_layers", layers},
                    {"experimental_attention_variant", "gdn"},
                    {"linear_attention_freq", freq}});
}

template <class F>
std::string config_error(F call) {
  try {
    call();
  } catch (const ConfigError& error) {
    return error.what();
  }
  return "no ConfigError";
}

TEST(BlockPatterns, LinearAttentionFreq) {
  EXPECT_EQ(get_linear_attention_pattern(linear(4)), (Pattern{1, 1, 1, 0, 1, 1}));
  EXPECT_EQ(get_linear_attention_pattern(linear(3)), (Pattern{1, 1, 0, 1, 1, 0}));
  EXPECT_EQ(get_linear_attention_pattern(linear(1)), (Pattern{0, 0, 0, 0, 0, 0}));
  EXPECT_EQ(get_linear_attention_pattern(linear(100000000000)), (Pattern{1, 1, 1, 1, 1, 1}));
  EXPECT_EQ(get_linear_attention_pattern(linear(Json::parse("[0,1,1,0,0,1]"))),
            (Pattern{0, 1, 1, 0, 0, 1}));
  EXPECT_EQ(get_linear_attention_pattern(arguments()), Pattern(6, 0));
}

TEST(BlockPatterns, MoeLayerFreqStartsWithTheFirst) {
  const auto moe = [](const Json& freq) {
    return get_moe_layer_pattern(arguments({{"num_moe_experts", 4}, {"moe_layer_freq", freq}}));
  };
  EXPECT_EQ(moe(2), (Pattern{1, 0, 1, 0, 1, 0}));
  EXPECT_EQ(moe(1), Pattern(6, 1));
  EXPECT_EQ(moe(Json::parse("[0,0,1,1,1,1]")), (Pattern{0, 0, 1, 1, 1, 1}));
}

TEST(BlockPatterns, RefusesWhatIsNoPattern) {
  for (const char* freq : {"3.14", "\"4\"", "0", "-1", "true", "null"}) {
    EXPECT_THAT(config_error([&] { get_linear_attention_pattern(linear(Json::parse(freq))); }),
                AllOf(HasSubstr("Invalid linear_attention_freq"), HasSubstr("integer >= 1")))
        << freq;
  }
  EXPECT_THAT(config_error([] { get_linear_attention_pattern(linear(Json::parse("[1,0]"))); }),
              AllOf(HasSubstr("Invalid length of linear_attention_pattern"), HasSubstr("= 6")));
  for (const char* list : {"[1,0,2,0,0,0]", "[1,0,true,0,0,0]", "[1,0,1.0,0,0,0]"}) {
    EXPECT_THAT(config_error([&] { get_linear_attention_pattern(linear(Json::parse(list))); }),
                HasSubstr("Invalid linear_attention_freq[2]"))
        << list;
  }
  const auto moe = [](const char* freq) {
    return config_error([&] {
      get_moe_layer_pattern(
          arguments({{"num_moe_experts", 2}, {"moe_layer_freq", Json::parse(freq)}}));
    });
  };
  EXPECT_THAT(moe("0"), HasSubstr("Invalid moe_layer_freq = 0"));
  EXPECT_THAT(moe("\"all\""), HasSubstr("Invalid moe_layer_freq"));
  EXPECT_THAT(moe("[1]"), HasSubstr("Invalid length of moe_layer_pattern"));
}

TEST(BlockSpec, AttentionAndMlpPatternsAreIndependent) {
  const auto layers = get_transformer_layer_with_experimental_attention_variant_spec(
      arguments({{"num_layers", 12},
                 {"experimental_attention_variant", "gated_delta_net"},
                 {"linear_attention_freq", 4},
                 {"num_moe_experts", 4},
                 {"moe_layer_freq", 3}}));
  for (int64_t i = 0; i < 12; ++i) {
    const TransformerLayerSubmodules& places = layers[i].submodules;
    EXPECT_EQ(places.self_attention->module, (i + 1) % 4 == 0 ? "SelfAttention" : "GatedDeltaNet");
    EXPECT_EQ(places.mlp->module, i % 3 == 0 ? "MoELayer" : "MLP.as_mlp_submodule");
    EXPECT_EQ(places.self_attention, layers[i % 4].submodules.self_attention);
    EXPECT_EQ(places.mlp, layers[i % 3].submodules.mlp);
  }
}

TEST(BlockSpec, OnlyKindsOfTheWholePatternAreBuilt) {
  // The wrong MLA setting concerns softmax layers only: no layer is one.
  const BlockArguments all_sparse = arguments({{"experimental_attention_variant", "dsa"}});
  EXPECT_THAT(config_error([&] {
                get_transformer_block_with_experimental_attention_variant_spec(all_sparse);
              }),
              HasSubstr("multi_latent_attention = false"));
  EXPECT_NO_THROW(get_transformer_block_with_experimental_attention_variant_spec(linear(1)));
}

TEST(BlockSpec, ErrorsOfAKindAppearOnEveryRank) {
  const BlockArguments two_ranks = arguments({{"experimental_attention_variant", "dsa"},
                                              {"multi_latent_attention", true},
                                              {"qk_l2_norm", true},
                                              {"pipeline_model_parallel_size", 2}});
  for (int64_t rank : {0, 1}) {
    EXPECT_THAT(config_error([&] {
                  get_transformer_block_with_experimental_attention_variant_spec(
                      two_ranks, {rank, std::nullopt});
                }),
                HasSubstr("qk_l2_norm = true"));
  }
}

TEST(BlockSpec, DispatchesOnTheVariant) {
  EXPECT_TRUE(is_linear_attention_variant("gdn"));
  EXPECT_TRUE(is_linear_attention_variant("gated_delta_net"));
  EXPECT_FALSE(is_linear_attention_variant("dsa"));
  EXPECT_FALSE(is_linear_attention_variant(std::nullopt));
  BlockArguments a = arguments();
  EXPECT_THAT(config_error([&] { get_experimental_attention_variant_module_spec(a); }),
              AllOf(HasSubstr("Invalid experimental attention variant"), HasSubstr("none")));
  a.experimental_attention_variant = "mamba";
  EXPECT_THAT(config_error([&] { get_experimental_attention_variant_module_spec(a); }),
              AllOf(HasSubstr("Invalid experimental attention variant"), HasSubstr("mamba")));
  a.experimental_attention_variant = "gdn";
  EXPECT_EQ(get_experimental_attention_variant_module_spec(a)->module, "GatedDeltaNet");
  a.experimental_attention_variant = "dsa";
  a.multi_latent_attention = true;
  EXPECT_EQ(get_experimental_attention_variant_module_spec(a)->module, "AbsorbedMLASelfAttention");
}

TEST(BlockSpec, MlaNeverFusesItsInputNorm) {
  const auto spec = _get_self_attention_module_spec(
      arguments({{"multi_latent_attention", true}, {"qk_layernorm", true}}));
  EXPECT_EQ(spec->module, "MLASelfAttention");
  EXPECT_EQ(spec->metainfo["fuse_input_layernorm"], false);
  EXPECT_EQ(spec->find("linear_q_up_proj")->module, "TELayerNormColumnParallelLinear");
  EXPECT_EQ(spec->find("q_layernorm")->module, "IdentityOp");
}

TEST(BlockBackends, ChosenByTheArguments) {
  EXPECT_EQ(_get_backend_spec_provider(arguments()), fused_backend());
  EXPECT_THAT(config_error([] {
                _get_backend_spec_provider(arguments({{"transformer_impl", "local"}}));
              }),
              AllOf(HasSubstr("transformer_impl = local"), HasSubstr("transformer_engine")));
  const BackendSpecProvider kitchen =
      _get_backend_spec_provider(arguments({{"use_kitchen", true}}));
  EXPECT_EQ(kitchen.column_parallel_linear, "KitchenColumnParallelLinear");
  EXPECT_EQ(kitchen.core_attention, "TEDotProductAttention");
  EXPECT_EQ(kitchen.norm, "TENorm");
  const auto attention = [](const char* backend) {
    return _get_backend_spec_provider(arguments({{"use_kitchen", true},
                                                 {"use_kitchen_attention", true},
                                                 {"kitchen_attention_backend", backend}}))
        .core_attention;
  };
  EXPECT_EQ(attention("sdpa"), "KitchenDotProductAttention");
  EXPECT_EQ(attention("fa"), "KitchenFlashAttention");
  EXPECT_THAT(config_error([&] { attention("xla"); }),
              AllOf(HasSubstr("kitchen_attention_backend = xla"), HasSubstr("sdpa | fa")));
}

TEST(BlockBackends, ComposedHasEveryModuleUnfused) {
  const BlockArguments a = linear(4);
  const auto layers =
      get_transformer_layer_with_experimental_attention_variant_spec(a, composed_backend());
  const TransformerLayerSubmodules& first = layers[0].submodules;
  EXPECT_EQ(first.self_attention->module, "GatedDeltaNet");
  EXPECT_EQ(first.self_attention->metainfo["fuse_input_layernorm"], false);
  EXPECT_EQ(first.self_attention->find("in_proj")->module, "ColumnParallelLinear");
  EXPECT_EQ(first.input_layernorm, "WrappedTorchNorm");
  EXPECT_EQ(first.pre_mlp_layernorm, "WrappedTorchNorm");
  const auto dsa = get_dsa_module_spec_for_backend(arguments({{"multi_latent_attention", true}}),
                                                   composed_backend());
  EXPECT_EQ(dsa->find("linear_q_down_proj")->module, "Linear");
}

TEST(BlockBackends, AWrapperFallsThroughWhereItNamesNothing) {
  BackendSpecProvider over;
  over.row_parallel_linear = "Mine";
  const BackendSpecProvider wrapped = wrapping_backend(over, composed_backend());
  BackendSpecProvider expected = composed_backend();
  expected.row_parallel_linear = "Mine";
  EXPECT_EQ(wrapped, expected);
  EXPECT_EQ(wrapping_backend({}, fused_backend()), fused_backend());
  over.column_parallel_layer_norm_linear = "MineFused";
  EXPECT_FALSE(wrapping_backend(over, composed_backend()).fuse_layernorm_and_linear());
}

TEST(BlockBackends, GroupedExpertsNeedTheSwitchAndTheBackend) {
  const auto experts = [](bool grouped, const OptionalBackend& backend) {
    const FusedModule moe = _get_moe_module_spec(
        arguments({{"num_moe_experts", 4}, {"moe_grouped_gemm", grouped}}), backend);
    EXPECT_FALSE(moe.fuses_norm);
    return moe.spec->find("experts")->module;
  };
  EXPECT_EQ(experts(true, std::nullopt), "TEGroupedMLP");
  EXPECT_EQ(experts(false, std::nullopt), "SequentialMLP");
  EXPECT_EQ(experts(true, composed_backend()), "SequentialMLP");
  EXPECT_TRUE(_get_dense_mlp_module_spec(arguments()).fuses_norm);
  EXPECT_FALSE(_get_dense_mlp_module_spec(arguments(), composed_backend()).fuses_norm);
}

TEST(BlockMtp, RepeatsTheLastSoftmaxLayer) {
  EXPECT_EQ(mtp_source_layer(linear(4)), 3);  // 1 1 1 0 1 1
  EXPECT_EQ(mtp_source_layer(linear(3)), 5);
  EXPECT_EQ(mtp_source_layer(linear(7)), std::nullopt);
  EXPECT_EQ(mtp_source_layer(arguments()), 5);
  for (const int64_t freq : {4, 7}) {
    BlockArguments a = linear(freq);
    EXPECT_FALSE(get_transformer_block_with_experimental_attention_variant_spec(a).mtp_layer);
    a.mtp_num_layers = 1;
    const auto block = get_transformer_block_with_experimental_attention_variant_spec(a);
    ASSERT_TRUE(block.mtp_layer);
    EXPECT_EQ(block.mtp_layer->submodules.self_attention->module, "SelfAttention");
  }
}

TEST(BlockDsa, IndexSourcesFollowTheFrequency) {
  BlockArguments a = arguments({{"dsa_indexer_topk_freq", 4}, {"dsa_indexer_skip_topk_offset", 2}});
  const auto sources = [&] {
    Pattern all;
    for (int64_t layer = 1; layer <= 10; ++layer) all.push_back(dsa_index_source(a, layer));
    return all;
  };
  EXPECT_EQ(sources(), (Pattern{1, 2, 2, 2, 2, 6, 6, 6, 6, 10}));
  a.dsa_indexer_skip_topk_offset = 0;
  EXPECT_EQ(sources(), (Pattern{1, 1, 1, 1, 5, 5, 5, 5, 9, 9}));
}

TEST(BlockDsa, ASliceHoldsTheSourcesOfItsLayers) {
  const BlockArguments a = arguments({{"num_layers", 8},
                                      {"experimental_attention_variant", "dsa"},
                                      {"multi_latent_attention", true},
                                      {"dsa_indexer_topk_freq", 3},
                                      {"pipeline_model_parallel_size", 2}});
  EXPECT_NO_THROW(get_transformer_block_with_experimental_attention_variant_spec(a, {0, {}}));
  try {
    get_transformer_block_with_experimental_attention_variant_spec(a, {1, {}});
    FAIL() << "layer 5 reuses layer 4";
  } catch (const UnsupportedError& error) {
    EXPECT_THAT(error.what(), AllOf(HasSubstr("layer 5"), HasSubstr("layer 4"),
                                    HasSubstr("dsa_indexer_topk_freq = 3"),
                                    HasSubstr("dsa_indexer_skip_topk_offset = 0")));
  }
}

TEST(BlockArguments, UnknownKeysAndTypesComeTogether) {
  const std::string text = config_error([] {
    read_block_arguments({{"num_layers", "six"}, {"linear_atention_freq", 4}, {"qk_clip", false}});
  });
  EXPECT_THAT(text, AllOf(HasSubstr("model.megatron.num_layers"),
                          HasSubstr("did you mean linear_attention_freq?")));
  EXPECT_THAT(text, testing::Not(HasSubstr("qk_clip")));
  EXPECT_THAT(config_error([] { read_block_arguments(Json::array()); }), HasSubstr("a mapping"));
}

}  // namespace
}  // namespace headway::spec
