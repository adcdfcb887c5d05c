// Megatron arguments: every rule's message, what is refused, and what layers come out.
// Not for: numbers (tests/golden/megatron).
#include "headway/spec/megatron.h"

#include <cmath>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "headway/base/error.h"
#include "headway/spec/megatron_check.h"

namespace headway::spec {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

Json arguments(const Json& changes = Json::object()) {
  Json result = {{"num_layers", 6},          {"hidden_size", 64},     {"vocab_size", 32},
                 {"num_attention_heads", 8}, {"num_query_groups", 2}, {"kv_channels", 8}};
  for (const auto& [key, value] : changes.items()) result[key] = value;
  return result;
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

AttentionSpec attention(const Json& changes, int64_t layer = 1) {
  return layer_attention(read_megatron(arguments(changes)), layer);
}

struct Refusal {
  const char* changes;
  std::vector<std::string> fragments;
};

class Rules : public testing::TestWithParam<Refusal> {};

TEST_P(Rules, ConfigErrorWithItsFragments) {
  const std::string text = error_of<ConfigError>(Json::parse(GetParam().changes));
  for (const std::string& fragment : GetParam().fragments) EXPECT_THAT(text, HasSubstr(fragment));
}

const Refusal kRefusals[] = {
    {R"({"fp16": true, "bf16": true})", {"fp16 = true and bf16 = true"}},
    {R"({"fp8": "e4m3", "fp4": "e2m1"})", {"fp8 = ", "fp4 = "}},
    {R"({"tensor_model_parallel_size": 3})",
     {"num_attention_heads (= 8)", "tensor_model_parallel_size (= 3)", "multiple or divisor"}},
    {R"({"num_query_groups": 3})", {"num_query_groups = 3: allowed a divisor"}},
    {R"({"kv_channels": 0})", {"kv_channels = 0: allowed an integer in [1"}},
    {R"({"attention_output_gate": true, "head_wise_attn_gate": true})", {"cannot both be enabled"}},
    {R"({"head_wise_attn_gate": true, "tensor_model_parallel_size": 4})",
     {"num_query_groups (= 2) must be at least tensor_model_parallel_size (= 4)"}},
    {R"({"head_wise_attn_gate": true, "num_query_groups": 8, "kv_channels": 128, "fp8": "e4m3"})",
     {"with fp8", "(= 3080) must be a multiple of 16"}},
    {R"({"head_wise_attn_gate": true, "num_attention_heads": 16, "kv_channels": 128,
         "fp4": "e2m1"})",
     {"with fp4", "(= 2576) must be a multiple of 32"}},
    {R"({"fused_single_qkv_rope": true, "head_wise_attn_gate": true})",
     {"fused_single_qkv_rope = true: not allowed with head_wise_attn_gate"}},
    {R"({"fused_single_qkv_rope": true, "attention_output_gate": true})",
     {"not allowed with attention_output_gate"}},
    {R"({"multi_latent_attention": true, "rotary_interleaved": true})",
     {"rotary_interleaved = true"}},
    {R"({"softmax_type": "sharp"})",
     {"Softmax type not supported", "vanilla | off-by-one | learnable", "sharp"}},
    {R"({"window_size": [4, 0], "window_attn_skip_freq": "three"})",
     {"Invalid `window_attn_skip_freq`", "str", "three"}},
    {R"({"window_size": [4, 0], "window_attn_skip_freq": [1, 0]})",
     {"window_attn_skip_freq length (2) must equal num_layers (6)"}},
    {R"({"window_attn_skip_freq": 2})", {"allowed only with window_size"}},
    {R"({"window_size": [-2, 0]})", {"window_size[0] = -2"}},
    {R"({"rotary_base_per_layer": [1e4, 1e4]})",
     {"rotary_base_per_layer length (2) must equal num_layers (6)"}},
    {R"({"rotary_base_per_layer": [1e4, 0, 1e4, 1e4, 1e4, 1e4]})",
     {"rotary_base_per_layer[1] = 0"}},
    {R"({"no_rope_freq": 2, "flash_decode": true})", {"flash_decode cannot be used with no_rope"}},
    {R"({"no_rope_freq": 4})", {"no_rope_freq = 4: allowed a divisor of num_layers (= 6)"}},
    {R"({"no_rope_freq": [1, 0, 1]})", {"no_rope_freq length (3) must equal num_layers (6)"}},
    {R"({"position_embedding_type": "mrope"})", {"mrope_section"}},
    {R"({"position_embedding_type": "mrope", "mrope_section": [1, 1, 1]})", {"mrope_section"}},
    {R"({"position_embedding_type": "mrope", "mrope_section": [2, 0, 2],
         "mrope_interleaved": true})",
     {"[2,0,2]", "allowed [2,1,1]"}},
    {R"({"position_embedding_type": "mrope", "mrope_section": [5, -1, 0]})",
     {"mrope_section = [5,-1,0]"}},
    {R"({"position_embedding_type": "mrope", "mrope_section": [2, 2]})",
     {"mrope_section = [2,2]: allowed three integers >= 0"}},
    {R"({"mrope_section": [2, 1, 1]})", {"position_embedding_type = mrope (= rope)"}},
    {R"({"attention_dropout": 1.0})", {"attention_dropout = 1"}},
    {R"({"rotary_percent": 0.4})", {"rotary_percent = 0.4", "= 3, allowed an even number"}},
    {R"({"position_embedding_type": "yarn", "yarn_rotary_scaling_factor": 4,
         "rotary_interleaved": true})",
     {"rotary_interleaved"}},
    {R"({"sequence_parallel": true})", {"sequence_parallel = true", "(= 1)"}},
    {R"({"cp_comm_type": ["p2p"]})", {"cp_comm_type length (1) must equal num_layers (6)"}},
    {R"({"cp_comm_type": "ring"})", {"cp_comm_type", "p2p | all_gather | a2a | a2a+p2p"}},
    {R"({"cp_comm_type": "a2a+p2p", "context_parallel_size": 4,
         "hierarchical_context_parallel_sizes": [2, 3]})",
     {"hierarchical_context_parallel_sizes = [2,3]", "(= 4)"}},
    {R"({"context_parallel_size": 2, "cp_comm_type": "p2p"})", {"allowed all_gather"}},
    {R"({"context_parallel_size": 2, "attention_dropout": 0.1})", {"attention_dropout = 0.1"}},
    {R"({"batch_invariant_mode": true})", {"attention_backend = flash (= auto)"}},
    {R"({"recompute_granularity": "some"})", {"full | selective"}},
    {R"({"recompute_granularity": "full"})", {"recompute_method", "recompute_num_layers"}},
    {R"({"recompute_granularity": "selective", "recompute_num_layers": 2})",
     {"recompute_num_layers = 2"}},
    {R"({"recompute_modules": ["mla_up_proj"]})", {"multi_latent_attention"}},
    {R"({"recompute_modules": ["everything"]})", {"recompute_modules[0]", "core_attn"}},
    {R"({"qk_layernorm": true, "qk_l2_norm": true})", {"qk_layernorm", "qk_l2_norm"}},
    {R"({"cp_partition_mode": "stripes"})", {"zigzag | contiguous"}},
    {R"({"context_parallel_size": 2, "cp_partition_mode": "contiguous"})",
     {"cp_partition_mode = contiguous"}},
    {R"({"head_wise_attn_gate": true, "attention_per_head_gate": false})",
     {"contradicts head_wise_attn_gate = true"}},
    {R"({"head_wise_attn_gate": true, "add_bias_linear": false,
         "head_wise_attn_gate_init": "constant:2"})",
     {"needs a bias"}},
    {R"({"head_wise_attn_gate_init": "big"})", {"normal | zero | constant:c"}},
    {R"({"num_query_group": 2})", {"unknown key; did you mean num_query_groups?"}},
    {R"({"vocab_size": null})", {"vocab_size: missing"}},
};
INSTANTIATE_TEST_SUITE_P(All, Rules, testing::ValuesIn(kRefusals));

class Missing : public testing::TestWithParam<Refusal> {};

TEST_P(Missing, UnsupportedErrorNamesIt) {
  const std::string text = error_of<UnsupportedError>(Json::parse(GetParam().changes));
  for (const std::string& fragment : GetParam().fragments) EXPECT_THAT(text, HasSubstr(fragment));
}

const Refusal kMissing[] = {
    {R"({"tensor_model_parallel_size": 2})", {"tensor parallelism is not in this build"}},
    {R"({"pipeline_model_parallel_size": 2})", {"pipeline parallelism"}},
    {R"({"context_parallel_size": 2, "attention_dropout": 0})", {"context parallelism"}},
    {R"({"fp8": "e4m3"})", {"fp8"}},
    {R"({"hidden_dropout": 0.1})",
     {"hidden_dropout = 0.1: dropout of the residual stream is not in this build"}},
    {R"({"multi_latent_attention": true, "head_wise_attn_gate": true})",
     {"multi_latent_attention = true", "head_wise_attn_gate = true"}},
    {R"({"multi_latent_attention": true, "attention_output_gate": true})",
     {"multi_latent_attention = true", "attention_output_gate = true"}},
    {R"({"rotary_base_per_layer": [1,1,1,1,1,1], "position_embedding_type": "none"})",
     {"\"none\"", "\"rope\", \"yarn\" and \"mrope\""}},
    {R"({"position_embedding_type": "learned_absolute"})", {"learned_absolute"}},
    {R"({"position_embedding_type": "mrope", "mrope_section": [2, 1, 1], "rope_scaling": true})",
     {"rope_scaling = true: Llama-3 scaling with position_embedding_type = mrope"}},
    {R"({"use_mup": true, "mup_width_mult": 4})", {"mup_width_mult = 4", "learning rates"}},
    {R"({"recompute_granularity": "selective", "recompute_modules": ["core_attn", "moe_act"]})",
     {"recompute_modules = moe_act", "not in this build"}},
    {R"({"layernorm_zero_centered_gamma": true})", {"zero-centred"}},
};
INSTANTIATE_TEST_SUITE_P(All, Missing, testing::ValuesIn(kMissing));

TEST(Megatron, EveryProblemAtOnce) {
  EXPECT_THAT(error_of<ConfigError>({{"num_query_groups", 3},
                                     {"nonsense_key", 1},
                                     {"no_rope_freq", 4},
                                     {"tensor_model_parallel_size", 2}}),
              AllOf(HasSubstr("num_query_groups = 3"), HasSubstr("nonsense_key"),
                    HasSubstr("no_rope_freq = 4")));
}

TEST(Megatron, FieldsWithoutEffectLeaveTheModelAlone) {
  const ModelSpec plain = from_megatron(arguments());
  EXPECT_EQ(plain, from_megatron(arguments({{"use_cpu_initialization", true},
                                            {"hidden_dropout", 0.0},
                                            {"attention_softmax_in_fp32", true},
                                            {"apply_query_key_layer_scaling", true},
                                            {"masked_softmax_fusion", false},
                                            {"recompute_granularity", "selective"},
                                            {"delay_wgrad_compute", true},
                                            {"test_mode", true},
                                            {"num_moe_experts", nullptr}})));
}

TEST(Megatron, AliasesOfTheHeadGate) {
  for (const char* name :
       {"head_wise_attn_gate", "use_head_wise_attn_gate", "attention_per_head_gate"}) {
    const AttentionSpec spec =
        attention({{name, true}, {"head_wise_attn_gate_init", "constant:2.5"}});
    EXPECT_EQ(spec.gate.kind, GateKind::kHeadWise);
    EXPECT_EQ(spec.gate.init, GateInit::kConstant);
    EXPECT_EQ(spec.gate.init_value, 2.5);
    EXPECT_TRUE(spec.gate_bias);
  }
}

TEST(Megatron, WindowsAndPositionsOfEachLayer) {
  const Json changes = {{"window_size", {4, 0}},
                        {"window_attn_skip_freq", 3},
                        {"no_rope_freq", {0, 1, 0, 0, 0, 1}},
                        {"rotary_base_per_layer", {10., 20., 30., 40., 50., 60.}}};
  const ModelSpec spec = from_megatron(arguments(changes));
  EXPECT_TRUE(spec.rope_per_layer);
  EXPECT_EQ(spec.rope_precision, RopePrecision::kModelDtype);
  for (int64_t i = 0; i < 6; ++i) {
    const AttentionSpec& layer = *attention_of(spec.layers[i]);
    EXPECT_EQ(layer.window.value_or(0), (i + 1) % 3 == 0 ? 0 : 5) << i;
    ASSERT_EQ(layer.rope.has_value(), i != 1 && i != 5) << i;
    if (layer.rope) {
      EXPECT_EQ(layer.rope->base, 10.0 * static_cast<double>(i + 1));
    }
  }
  EXPECT_EQ(attention({{"window_size", {-1, 0}}}).window, std::nullopt);
}

TEST(Megatron, OneScaleWhateverItComesFrom) {
  EXPECT_EQ(attention({}).scale, 1 / std::sqrt(8.0));
  EXPECT_EQ(attention({{"softmax_scale", 0.3}, {"use_mup", true}}).scale, 0.3);
  EXPECT_EQ(attention({{"use_mup", true}}).scale, 1 / 8.0);
  EXPECT_NEAR(attention({{"use_mup", true}, {"mup_attn_scale_power", 0.5}}).scale,
              1 / std::sqrt(8.0), 1e-15);
  EXPECT_NEAR(attention({{"use_mup", true}, {"mup_base_head_dim", 4.0}}).scale, 2 / 8.0, 1e-15);
  EXPECT_EQ(attention({{"mup_attn_scale_power", 2.0}}).scale, 1 / std::sqrt(8.0))
      << "without use_mup";
  EXPECT_EQ(attention({{"apply_query_key_layer_scaling", true}}, 5), attention({}, 5));
}

TEST(Megatron, DropoutOfProbabilities) {
  EXPECT_EQ(attention({}).dropout, 0.1) << "upstream's default";
  EXPECT_EQ(attention({{"attention_dropout", 0.0}}).dropout, 0.0);
}

TEST(Megatron, SectionsOfMultimodalPositions) {
  const AttentionSpec runs =
      attention({{"position_embedding_type", "mrope"}, {"mrope_section", {1, 2, 1}}});
  EXPECT_EQ(runs.rope->sections, (std::array<int64_t, 3>{1, 2, 1}));
  EXPECT_FALSE(runs.rope->sections_interleaved);
  const AttentionSpec turns = attention({{"position_embedding_type", "mrope"},
                                         {"mrope_section", {2, 1, 1}},
                                         {"mrope_interleaved", true},
                                         {"rotary_scaling_factor", 2.0},
                                         {"rotary_base_per_layer", {1, 2, 3, 4, 5, 6}}},
                                        3);
  EXPECT_TRUE(turns.rope->sections_interleaved);
  EXPECT_EQ(turns.rope->kind, RopeKind::kLinear);
  EXPECT_EQ(turns.rope->base, 3.0);
}

TEST(Megatron, BasesCountMtpLayers) {
  const Json five = {1e4, 1e4, 1e4, 1e4, 1e4};
  const Json seven = {1e4, 1e4, 1e4, 1e4, 1e4, 1e4, 1e6};
  EXPECT_THAT(error_of<ConfigError>({{"rotary_base_per_layer", seven}}),
              HasSubstr("rotary_base_per_layer length (7) must equal num_layers (6)"));
  EXPECT_THAT(error_of<ConfigError>({{"rotary_base_per_layer", five}, {"mtp_num_layers", 1}}),
              HasSubstr("rotary_base_per_layer length (5) must equal num_layers (7)"));
  EXPECT_EQ(attention_of(
                from_megatron(arguments({{"rotary_base_per_layer", seven}, {"mtp_num_layers", 1}}))
                    .mtp->layers[0])
                ->rope->base,
            1e6);
}

TEST(Megatron, LocalCudaGraphsNeedFlashDecodeWithAStaticCache) {
  for (const Json& changes :
       {Json{{"enable_cuda_graph", true}}, Json{{"cuda_graph_impl", "local"}}}) {
    const MegatronConfig config = read_megatron(arguments(changes));
    try {
      check_static_decode(config);
      FAIL() << changes;
    } catch (const ConfigError& error) {
      EXPECT_THAT(error.what(),
                  HasSubstr("CUDA graphs must use flash decode with static batching"));
    }
  }
  check_static_decode(read_megatron(arguments({{"cuda_graph_impl", "transformer_engine"}})));
}

TEST(Megatron, MaskTypesAreRules) {
  for (const auto& [name, causal] :
       std::vector<std::pair<std::string, bool>>{{"causal", true},
                                                 {"padding_causal", true},
                                                 {"causal_bottom_right", true},
                                                 {"padding", false},
                                                 {"no_mask", false},
                                                 {"arbitrary", false}}) {
    const auto mask = enum_parse<MegatronMask>(name);
    ASSERT_TRUE(mask) << name;
    EXPECT_EQ(is_causal(*mask), causal) << name;
  }
}

TEST(Megatron, YarnFactorFollowsUpstream) {
  EXPECT_NEAR(yarn_concentration(40, std::nullopt, std::nullopt), 1.36888795, 1e-8);
  EXPECT_NEAR(yarn_concentration(32, std::nullopt, std::nullopt), 1.34657359, 1e-8);
  EXPECT_EQ(yarn_concentration(40, 1.0, 1.0), 1.0);
  EXPECT_NEAR(yarn_concentration(40, 0.5, 0.0), 1.18444397, 1e-8);
  EXPECT_EQ(yarn_concentration(0.5, 1.0, 0.0), 1.0);
}

TEST(Megatron, BiasesNormsAndMlp) {
  const AttentionSpec spec = attention({{"add_bias_linear", false},
                                        {"add_qkv_bias", true},
                                        {"qk_l2_norm", true},
                                        {"softmax_type", "off-by-one"},
                                        {"softmax_scale", 0.7}});
  EXPECT_TRUE(spec.qkv_bias);
  EXPECT_FALSE(spec.output_bias);
  EXPECT_EQ(spec.q_norm->weight, NormWeight::kNone);
  EXPECT_EQ(spec.q_norm->kind, NormKind::kRms);
  EXPECT_EQ(spec.sinks, SinkKind::kOffByOne);
  EXPECT_EQ(spec.scale, 0.7);
  const ModelSpec model = from_megatron(arguments({{"swiglu", true}}));
  const auto& mlp = std::get<DenseMlpSpec>(model.layers[0].mlp);
  EXPECT_TRUE(mlp.gated);
  EXPECT_EQ(mlp.activation, Activation::kSilu);
  EXPECT_EQ(mlp.intermediate_size, 256);
  EXPECT_TRUE(model.head.final_norm->bias);
}

}  // namespace
}  // namespace headway::spec
