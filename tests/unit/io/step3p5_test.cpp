// Family step3p5: both spellings of what differs per layer, and every error of reading it.
// Not for: forward passes.
#include <set>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "headway/base/text_util.h"
#include "headway/io/tensor_layout.h"

#include "tests/unit/io/family_configs.h"

namespace headway::io {
namespace {

using ::testing::HasSubstr;
using testing_support::message_of;

std::string unsupported(const Json& config) {
  return message_of<UnsupportedError>([&] { read_spec(config); });
}

TEST(Step3p5, LayersStateTheirOwn) {
  const spec::ModelSpec spec = read_spec(step_config());
  EXPECT_EQ(attention_of_layer(spec, 0).num_heads, 2);
  EXPECT_EQ(attention_of_layer(spec, 1).num_heads, 4);
  EXPECT_EQ(attention_of_layer(spec, 0).window, std::nullopt);
  EXPECT_EQ(attention_of_layer(spec, 1).window, 5);
  EXPECT_EQ(attention_of_layer(spec, 0).rope->base, 5e4);
  EXPECT_EQ(attention_of_layer(spec, 0).rope->fraction, 0.5);
  EXPECT_EQ(attention_of_layer(spec, 0).gate.kind, spec::GateKind::kHeadWise);
  EXPECT_EQ(attention_of_layer(spec, 0).q_norm->weight, spec::NormWeight::kZeroCentered);
  EXPECT_EQ(spec.embedding.padding_id, 1);
  EXPECT_TRUE(spec.rope_per_layer);
}

TEST(Step3p5, GenuinelyPerLayerBases) {
  Json config = step_config();
  config["rope_theta"] = {1e4, 2e4, 3e4, 4e4};
  const spec::ModelSpec spec = read_spec(config);
  EXPECT_EQ(attention_of_layer(spec, 3).rope->base, 4e4);
  const Json written = export_config(step3p5_family(), spec, {});
  EXPECT_EQ(written["rope_theta"], Json({1e4, 2e4, 3e4, 4e4}));
  config["rope_theta"] = 7.0;  // one number for all
  EXPECT_EQ(attention_of_layer(read_spec(config), 2).rope->base, 7.0);
}

TEST(Step3p5, OtherSettingReplacesAllThree) {
  Json config = step_config();
  config["attention_other_setting"] = {{"attention_type", "sliding_attention"},
                                       {"num_attention_heads", 6},
                                       {"num_attention_groups", 3},
                                       {"head_dim", 4}};
  const auto attention = attention_of_layer(read_spec(config), 1);
  EXPECT_EQ(attention.num_heads, 6);
  EXPECT_EQ(attention.num_kv_heads, 3);
  EXPECT_EQ(attention.head_dim, 4);
  EXPECT_EQ(attention.scale, 0.5);
}

TEST(Step3p5, PerLayerConfigZeroPadded) {
  Json config = step_config();
  config.erase("attention_other_setting");
  config["per_layer_config"] = {{"01", {{"num_attention_heads", 8}}}};
  EXPECT_EQ(attention_of_layer(read_spec(config), 1).num_heads, 8);
  EXPECT_EQ(attention_of_layer(read_spec(config), 2).num_heads, 2);
  config["num_sliding_attention_heads"] = 6;
  EXPECT_EQ(attention_of_layer(read_spec(config), 1).num_heads, 8);
  EXPECT_EQ(attention_of_layer(read_spec(config), 2).num_heads, 6);
}

TEST(Step3p5, ScalingTouchesOnlyTheNamedTypes) {
  Json config = step_config();
  config["rope_scaling"] = {{"rope_type", "llama3"},
                            {"factor", 2.0},
                            {"low_freq_factor", 1.0},
                            {"high_freq_factor", 32.0},
                            {"original_max_position_embeddings", 32}};
  EXPECT_EQ(attention_of_layer(read_spec(config), 0).rope->kind, spec::RopeKind::kLlama3);
  EXPECT_EQ(attention_of_layer(read_spec(config), 1).rope->kind, spec::RopeKind::kDefault);
  for (const Json& everywhere : {Json(nullptr), Json::array()}) {
    config["yarn_only_types"] = everywhere;
    EXPECT_EQ(attention_of_layer(read_spec(config), 1).rope->kind, spec::RopeKind::kLlama3);
  }
}

TEST(Step3p5, RopeCanBeLeftOut) {
  Json config = step_config();
  config["use_rope_layers"] = {1, 0, true, false};
  const spec::ModelSpec spec = read_spec(config);
  EXPECT_TRUE(attention_of_layer(spec, 0).rope && attention_of_layer(spec, 2).rope);
  EXPECT_FALSE(attention_of_layer(spec, 1).rope || attention_of_layer(spec, 3).rope);
  EXPECT_EQ(export_config(step3p5_family(), spec, {})["use_rope_layers"], Json({1, 0, 1, 0}));
}

TEST(Step3p5, FlagsOfThePublishedCode) {
  Json config = step_config();
  config["zero_centered"] = false;
  config["use_qk_norm"] = false;
  config["use_head_wise_attn_gate"] = false;
  const spec::ModelSpec spec = read_spec(config);
  EXPECT_EQ(spec.head.final_norm->weight, spec::NormWeight::kPlain);
  EXPECT_FALSE(attention_of_layer(spec, 0).q_norm.has_value());
  EXPECT_EQ(attention_of_layer(spec, 0).gate.kind, spec::GateKind::kNone);
}

TEST(Step3p5, LimitsOfDenseLayersAreTheSharedOnes) {
  Json config = step_config();
  config["swiglu_limits"] = {1.0, 1.0, 1.0, 1.0};
  config["swiglu_limits_shared"] = {0.0, 7.0, nullptr, 0.5};
  const spec::ModelSpec spec = read_spec(config);
  const auto limit = [&](size_t i) {
    return std::get<spec::DenseMlpSpec>(spec.layers[i].mlp).limit;
  };
  EXPECT_EQ(limit(0), std::nullopt);
  EXPECT_EQ(limit(1), 7.0);
  EXPECT_EQ(limit(2), std::nullopt);
  EXPECT_EQ(limit(3), 0.5);
}

TEST(Step3p5, AbsentLayerTypesAlternate) {
  Json config = step_config();
  config.erase("layer_types");
  EXPECT_EQ(attention_of_layer(read_spec(config), 0).window, 5);
  EXPECT_EQ(attention_of_layer(read_spec(config), 1).window, std::nullopt);
}

TEST(Step3p5, NoPaddingSurvivesARoundTrip) {
  Json config = step_config();
  config["pad_token_id"] = nullptr;
  const spec::ModelSpec spec = read_spec(config);
  EXPECT_EQ(spec.embedding.padding_id, std::nullopt);
  const Json written = export_config(step3p5_family(), spec, {});
  EXPECT_TRUE(written["pad_token_id"].is_number_integer());  // transformers takes no null here
  EXPECT_EQ(read_spec(written).embedding.padding_id, std::nullopt);
}

Json moe_config() {
  Json config = step_config();
  config["use_moe"] = true;
  config["moe_layers_enum"] = "2,3";
  config["moe_num_experts"] = 4;
  config["moe_top_k"] = 2;
  config["moe_intermediate_size"] = 8;
  config["share_expert_dim"] = 12;
  config["moe_router_scaling_factor"] = 2.5;
  return config;
}

std::vector<size_t> sparse_layers(const Json& config) {
  std::vector<size_t> layers;
  const spec::ModelSpec spec = read_spec(config);
  for (size_t i = 0; i < spec.layers.size(); ++i) {
    if (spec::moe_of(spec.layers[i]) != nullptr) layers.push_back(i);
  }
  return layers;
}

TEST(Step3p5, LayersWithExpertsByEveryKey) {
  using testing::ElementsAre;
  using testing::IsEmpty;
  Json config = moe_config();
  EXPECT_THAT(sparse_layers(config), ElementsAre(2, 3));
  config["moe_layers_enum"] = {3};
  EXPECT_THAT(sparse_layers(config), ElementsAre(3));
  config.erase("moe_layers_enum");
  EXPECT_THAT(sparse_layers(config), ElementsAre(1, 2, 3));
  config["mlp_layer_types"] = {"dense", "dense", "dense", "sparse"};
  EXPECT_THAT(sparse_layers(config), ElementsAre(3));
  config["mlp_layer_types"] = {"dense", "dense", "dense", "dense"};
  EXPECT_THAT(sparse_layers(config), IsEmpty());
  config.erase("mlp_layer_types");
  config["use_moe"] = false;
  EXPECT_THAT(sparse_layers(config), IsEmpty());
}

TEST(Step3p5, RouterKeysAreHonoured) {
  const auto moe_of = [](const Json& config) { return *spec::moe_of(read_spec(config).layers[2]); };
  Json config = moe_config();
  spec::MoeSpec moe = moe_of(config);
  EXPECT_EQ(moe.num_experts, 4);
  EXPECT_EQ(moe.router.score, spec::RouterScore::kSigmoid);
  EXPECT_TRUE(moe.router.expert_bias);
  EXPECT_TRUE(moe.router.normalize);
  EXPECT_EQ(moe.router.scale, 2.5);
  EXPECT_EQ(moe.router.bias_update_rate, 0.0);
  EXPECT_EQ(moe.shared->intermediate_size, 12);
  config["use_moe_router_bias"] = false;
  config["norm_expert_weight"] = false;
  config["swiglu_limits"] = {0, 0, 7.0, 0};
  config["swiglu_limits_shared"] = {0, 0, 16.0, 0};
  moe = moe_of(config);
  EXPECT_FALSE(moe.router.expert_bias);
  EXPECT_FALSE(moe.router.normalize);
  EXPECT_EQ(moe.limit, 7.0);
  EXPECT_EQ(moe.shared->limit, 16.0);
  config["moe_router_activation"] = "softmax";
  EXPECT_EQ(moe_of(config).router.score, spec::RouterScore::kSoftmax);
  config["moe_router_activation"] = "tanh";
  EXPECT_THAT(config_error(config), HasSubstr("sigmoid | softmax"));
  config = moe_config();
  config["n_routed_experts"] = 5;
  EXPECT_THAT(config_error(config), HasSubstr("n_routed_experts"));
  config = moe_config();
  config.erase("share_expert_dim");
  EXPECT_THAT(config_error(config), HasSubstr("share_expert_dim"));
}

Json with_next_token_layers() {
  Json config = step_config();
  config["num_nextn_predict_layers"] = 2;
  for (const char* key : {"layer_types", "rope_theta", "partial_rotary_factors"}) {
    config[key].push_back(config[key][1]);
    config[key].push_back(config[key][1]);
  }
  return config;
}

TEST(Step3p5, NextTokenLayersReadTheResidualStreamAndHaveHeads) {
  Json config = with_next_token_layers();
  const spec::ModelSpec spec = read_spec(config);
  ASSERT_TRUE(spec.mtp);
  EXPECT_EQ(spec.layers.size(), 4u);
  EXPECT_EQ(spec.mtp->depths(), 2);
  EXPECT_EQ(spec.mtp->layers[1].mixer, spec.layers[1].mixer);
  EXPECT_EQ(spec.mtp->hidden, spec::MtpHidden::kResidual);
  EXPECT_TRUE(spec.mtp->own_head);
  EXPECT_EQ(spec.mtp->final_norm, spec.head.final_norm);
  const Json written = export_config(step3p5_family(), spec, {});
  EXPECT_EQ(written["num_nextn_predict_layers"], 2);
  EXPECT_EQ(written["layer_types"], config["layer_types"]);
  EXPECT_EQ(written["rope_theta"].size(), 6u);
  EXPECT_EQ(canonical_spec(read_spec(written)), canonical_spec(spec));
  config["rope_theta"].push_back(1.0);
  EXPECT_THAT(config_error(config), HasSubstr("a list of 4 or 6"));
}

TEST(Step3p5, NextTokenTypesMayStandApart) {
  Json config = with_next_token_layers();
  const spec::ModelSpec together = read_spec(config);
  Json types = config["layer_types"];
  types.erase(types.begin() + 4, types.end());
  config["layer_types"] = types;
  EXPECT_THAT(config_error(config), HasSubstr("mtp_layer_types"));
  config["mtp_layer_types"] = {types[1], types[1]};
  EXPECT_EQ(read_spec(config), together);
}

TEST(Step3p5, NextTokenTensorsHaveThePublishedNames) {
  const spec::ModelSpec spec = read_spec(with_next_token_layers());
  std::set<std::string> names;
  for (const Binding& binding : layout(spec, step3p5_family())) {
    for (const DiskTensor& tensor : binding.disk) names.insert(tensor.name);
  }
  for (const char* name :
       {"enorm.weight", "hnorm.weight", "eh_proj.weight", "input_layernorm.weight",
        "self_attn.g_proj.weight", "mlp.down_proj.weight", "transformer.shared_head.norm.weight",
        "transformer.shared_head.output.weight"}) {
    EXPECT_TRUE(names.contains(std::string("model.layers.5.") + name)) << name;
  }
}

TEST(Step3p5, WhatMultiTokenPredictionCannotSayIsNamed) {
  spec::ModelSpec spec = read_spec(with_next_token_layers());
  spec.mtp->own_head = false;
  spec.mtp->hidden = spec::MtpHidden::kNormed;
  spec.mtp->hidden_norm->eps = 1e-3;
  const std::string reasons = join(reasons_against(step3p5_family(), spec), "; ");
  EXPECT_THAT(reasons, HasSubstr("without heads of its own"));
  EXPECT_THAT(reasons, HasSubstr("from normed hidden states"));
  EXPECT_THAT(reasons, HasSubstr("norm of the hidden state in multi-token prediction"));
  EXPECT_THAT(join(reasons_against(llama_family(), spec), "; "),
              HasSubstr("multi-token prediction"));
}

TEST(Step3p5, SinksAndOtherAttentionAreUnsupported) {
  Json config = step_config();
  config["sink"] = true;
  EXPECT_THAT(unsupported(config), HasSubstr("sink"));
  config = step_config();
  config["att_impl_type"] = "MLA";
  EXPECT_THAT(unsupported(config), HasSubstr("MLA"));
}

TEST(Step3p5, TypedRopeParameters) {
  Json config = step_config();
  const Json full = {{"rope_type", "default"}, {"rope_theta", 5e4}, {"partial_rotary_factor", 0.5}};
  const Json sliding = {{"rope_type", "default"}, {"rope_theta", 1e4}};
  config["rope_parameters"] = {{"full_attention", full}, {"sliding_attention", sliding}};
  EXPECT_TRUE(read_spec(config) == read_spec(step_config()));  // both spellings, equal
  config["rope_theta"][2] = 3.0;
  EXPECT_THAT(config_error(config), HasSubstr("rope_parameters: differs from rope_theta"));
  config.erase("rope_theta");
  config.erase("partial_rotary_factors");
  EXPECT_TRUE(read_spec(config) == read_spec(step_config()));
  config["rope_parameters"].erase("full_attention");
  EXPECT_THAT(config_error(config), HasSubstr("rope_parameters.full_attention = missing"));
}

TEST(Step3p5, Errors) {
  struct Bad {
    const char* key;
    Json value;
    const char* text;
  };
  const std::vector<Bad> cases = {
      {"layer_types", {"full_attention"}, "a list of 4"},
      {"layer_types", {"full_attention", "x", "full_attention", "full_attention"}, "[1] = \"x\""},
      {"layer_types", "full_attention", "a list of strings"},
      {"rope_theta", {1.0, 2.0}, "a list of 4"},
      {"rope_theta", {1.0, 2.0, 3.0, -1.0}, "rope_theta[3] = -1"},
      {"rope_theta", {1.0, 2.0, 3.0, "x"}, "rope_theta[3]"},
      {"partial_rotary_factors", {0.5, 1.0, 1.5, 1.0}, "[2] = 1.5"},
      {"partial_rotary_factors", {0.5}, "a list of 4"},
      {"swiglu_limits_shared", {1.0}, "a list of 4"},
      {"swiglu_limits_shared", {1.0, -1.0, 0.0, 0.0}, "swiglu_limits_shared[1]"},
      {"use_rope_layers", {1, 2, 1, 1}, "[1] = 2"},
      {"use_rope_layers", {1}, "a list of 4"},
      {"use_rope_layers", 1, "a list"},
      {"moe_layers_enum", "a,b", "layer numbers"},
      {"moe_layers_enum", {-1}, "layer numbers"},
      {"moe_layers_enum", 3, "layer numbers"},
      {"mlp_layer_types", {"dense", "dense", "dense", "odd"}, "odd"},
      {"num_attention_groups", 3, "multiple of its 3 key/value heads"},
      {"num_key_value_heads", 1, "the value of num_attention_groups"},
      {"attention_other_setting", 3, "an object"},
      {"attention_other_setting",
       {{"attention_type", "sliding_attention"}, {"num_attention_heads", 5}},
       "layer 1"},
      {"per_layer_config", {{"x", Json::object()}}, "layer numbers in 0..3"},
      {"per_layer_config", {{"4", Json::object()}}, "layer numbers in 0..3"},
      {"per_layer_config", {{"1", {{"hidden_size", 3}}}}, "per_layer_config.1.hidden_size"},
      {"sliding_window", nullptr, "sliding_window = null: allowed an integer >= 1"},
      {"sliding_window", 0, "an integer"},
      {"rope_scaling", {{"rope_type", "cubic"}}, "rope_type"},
      {"num_nextn_predict_layers", -1, "an integer"},
      {"query_pre_attn_scalar", 0, "a number > 0"}};
  for (const Bad& bad : cases) {
    Json config = step_config();
    config[bad.key] = bad.value;
    EXPECT_THAT(config_error(config), HasSubstr(bad.text)) << bad.key << " " << bad.value.dump();
  }
  Json config = step_config();
  config["use_moe"] = false;
  config["moe_layers_enum"] = {1};
  EXPECT_THAT(config_error(config), HasSubstr("use_moe"));
  config = step_config();
  config["mlp_layer_types"] = {"dense", "dense", "dense", "sparse"};
  EXPECT_THAT(config_error(config), HasSubstr("moe_layers_enum"));
}

TEST(Step3p5, ScalingThatDiffersBetweenTypesCannotBeWritten) {
  spec::ModelSpec spec = read_spec(step_config());
  auto& full = std::get<spec::AttentionSpec>(spec.layers[0].mixer);
  full.rope->kind = spec::RopeKind::kLinear;
  full.rope->factor = 2.0;
  EXPECT_THAT(step3p5_family().inexpressible(spec),
              ::testing::ElementsAre(HasSubstr("another rotary scaling than layer 0")));
  std::get<spec::AttentionSpec>(spec.layers[3].mixer).rope->kind = spec::RopeKind::kLinear;
  std::get<spec::AttentionSpec>(spec.layers[3].mixer).rope->factor = 2.0;
  EXPECT_TRUE(step3p5_family().inexpressible(spec).empty());
  for (size_t i : {1, 2}) {
    auto& sliding = std::get<spec::AttentionSpec>(spec.layers[i].mixer);
    sliding.rope->kind = spec::RopeKind::kLinear;
    sliding.rope->factor = 3.0;
  }
  EXPECT_THAT(step3p5_family().inexpressible(spec),
              ::testing::ElementsAre(HasSubstr("different rotary scalings")));
}

}  // namespace
}  // namespace headway::io
