// Megatron's arguments of mixtures of experts: what they mean, and each of their errors.
#include "headway/spec/megatron_moe.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "headway/base/error.h"
#include "headway/spec/megatron.h"

#include "tests/support/message_of.h"

namespace headway::spec {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

Json arguments() {
  return {{"num_layers", 4},           {"hidden_size", 16},        {"num_attention_heads", 2},
          {"vocab_size", 11},          {"add_bias_linear", false}, {"gated_linear_unit", true},
          {"activation_func", "silu"}, {"num_moe_experts", 8},     {"moe_ffn_hidden_size", 12},
          {"moe_router_topk", 2}};
}

ModelSpec model_of(const Json& changes) {
  Json all = arguments();
  if (!changes.is_null()) all.update(changes);  // {} is null
  return from_megatron(all);
}

template <class E>
std::string error_of(const Json& changes) {
  return testing_support::message_of<E>([&] { model_of(changes); });
}

std::vector<bool> sparse(const ModelSpec& model) {
  std::vector<bool> layers;
  for (const LayerSpec& layer : model.layers) layers.push_back(moe_of(layer) != nullptr);
  return layers;
}

TEST(MegatronMoe, LayersByFrequencyOrList) {
  EXPECT_THAT(sparse(model_of({})), ElementsAre(true, true, true, true));
  EXPECT_THAT(sparse(model_of({{"moe_layer_freq", 3}})), ElementsAre(true, false, false, true));
  EXPECT_THAT(sparse(model_of({{"moe_layer_freq", {0, 1, 1, 0}}})),
              ElementsAre(false, true, true, false));
  EXPECT_THAT(error_of<ConfigError>({{"moe_layer_freq", "x"}}),
              HasSubstr("Invalid moe_layer_freq"));
  EXPECT_THAT(error_of<ConfigError>({{"moe_layer_freq", {1, 0}}}),
              HasSubstr("Invalid length of moe_layer_pattern"));
}

TEST(MegatronMoe, MixtureHoldsEveryArgument) {
  const ModelSpec model =
      model_of({{"moe_router_score_function", "sigmoid"},
                {"moe_router_enable_expert_bias", true},
                {"moe_router_bias_update_rate", 0.01},
                {"moe_router_num_groups", 4},
                {"moe_router_group_topk", 2},
                {"moe_router_topk_scaling_factor", 2.5},
                {"moe_router_load_balancing_type", {"aux_loss", "seq_aux_loss"}},
                {"moe_aux_loss_coeff", {0.1, 0.2}},
                {"moe_z_loss_coeff", 0.3},
                {"moe_expert_capacity_factor", 1.5},
                {"moe_token_drop_policy", "position"},
                {"moe_shared_expert_intermediate_size", 20},
                {"moe_shared_expert_gate", true},
                {"moe_latent_size", 6}});
  const MoeSpec& moe = *moe_of(model.layers[0]);
  EXPECT_EQ(moe.num_experts, 8);
  EXPECT_EQ(moe.top_k, 2);
  EXPECT_EQ(moe.intermediate_size, 12);
  EXPECT_EQ(moe.router.score, RouterScore::kSigmoid);
  EXPECT_TRUE(moe.router.normalize);
  EXPECT_TRUE(moe.router.expert_bias);
  EXPECT_EQ(moe.router.bias_update_rate, 0.01);
  EXPECT_EQ(moe.router.scale, 2.5);
  EXPECT_EQ(moe.router.num_groups, 4);
  EXPECT_EQ(moe.router.kept_groups, 2);
  EXPECT_EQ(moe.best_of_group(), 1);
  ASSERT_EQ(moe.router.losses.size(), 2u);
  EXPECT_EQ(moe.router.losses[0].kind, BalanceKind::kBatch);
  EXPECT_EQ(moe.router.losses[1].kind, BalanceKind::kSequence);
  EXPECT_EQ(moe.router.losses[1].coefficient, 0.2);
  EXPECT_EQ(moe.router.z_loss, 0.3);
  EXPECT_EQ(moe.capacity->factor, 1.5);
  EXPECT_EQ(moe.capacity->drop, DropPolicy::kPosition);
  EXPECT_EQ(moe.shared->intermediate_size, 20);
  EXPECT_TRUE(moe.shared->gate);
  EXPECT_EQ(moe.latent_size, 6);
}

TEST(MegatronMoe, NormalisationFollowsTheScore) {
  const auto normalize = [](const Json& changes) {
    return moe_of(model_of(changes).layers[0])->router.normalize;
  };
  EXPECT_TRUE(normalize({}));
  EXPECT_FALSE(normalize({{"moe_router_pre_softmax", true}}));
  EXPECT_TRUE(normalize({{"moe_router_score_function", "sqrtsoftplus"}}));
  EXPECT_FALSE(normalize({{"moe_router_score_function", "sigmoid"}, {"moe_router_topk", 1}}));
}

TEST(MegatronMoe, EveryRuleNamesItsArgument) {
  const auto error = [](const Json& changes) { return error_of<ConfigError>(changes); };
  EXPECT_THAT(error({{"num_moe_experts", 0}}), HasSubstr("num_moe_experts = 0"));
  EXPECT_THAT(error({{"num_moe_experts", nullptr}}), HasSubstr("moe_ffn_hidden_size = 12"));
  EXPECT_THAT(error({{"num_moe_experts", nullptr},
                     {"moe_ffn_hidden_size", nullptr},
                     {"expert_model_parallel_size", 2}}),
              HasSubstr("expert_model_parallel_size = 2"));
  EXPECT_THAT(error({{"moe_shared_expert_intermediate_size", 0}}),
              HasSubstr("moe_shared_expert_intermediate_size = 0"));
  EXPECT_THAT(error({{"moe_shared_expert_intermediate_size", 4}, {"add_bias_linear", true}}),
              HasSubstr("add_bias_linear = true"));
  EXPECT_THAT(error({{"moe_shared_expert_gate", true}}), HasSubstr("moe_shared_expert_gate"));
  EXPECT_THAT(error({{"moe_pad_expert_input_to_capacity", true}}),
              HasSubstr("moe_pad_expert_input_to_capacity = true"));
  EXPECT_THAT(error({{"moe_router_enable_expert_bias", true}}), HasSubstr("expert bias"));
  EXPECT_THAT(error({{"moe_router_padding_for_quantization", true}}),
              HasSubstr("moe_router_padding_for_quantization"));
  EXPECT_THAT(error({{"moe_router_topk", 1}}), HasSubstr("moe_router_pre_softmax"));
  EXPECT_THAT(error({{"moe_router_topk", 9}}), HasSubstr("moe_router_topk = 9"));
  EXPECT_THAT(error({{"moe_router_group_topk", 2}}), HasSubstr("moe_router_num_groups"));
  EXPECT_THAT(error({{"moe_router_num_groups", 2}}), HasSubstr("moe_router_group_topk: missing"));
  EXPECT_THAT(error({{"moe_router_num_groups", 3}, {"moe_router_group_topk", 1}}),
              HasSubstr("moe_router_num_groups = 3"));
  EXPECT_THAT(error({{"moe_router_num_groups", 4}, {"moe_router_group_topk", 3}}),
              HasSubstr("moe_router_group_topk = 3"));
  EXPECT_THAT(error({{"moe_router_score_function", "tanh"}}), HasSubstr("sqrtsoftplus"));
  EXPECT_THAT(error({{"moe_token_drop_policy", "random"}}), HasSubstr("probs"));
  EXPECT_THAT(error({{"moe_single_grouped_weight", true}}), HasSubstr("moe_grouped_gemm"));
  EXPECT_THAT(error({{"moe_aux_loss_coeff", {0.1, 0.2}}}), HasSubstr("moe_aux_loss_coeff"));
  EXPECT_THAT(error({{"moe_aux_loss_coeff", -1}}), HasSubstr("moe_aux_loss_coeff = -1"));
  EXPECT_THAT(error({{"moe_router_load_balancing_type", "best"}}),
              HasSubstr("aux_loss | seq_aux_loss | global_aux_loss | sinkhorn | none"));
  EXPECT_THAT(error({{"moe_apply_probs_on_input", true}}), HasSubstr("moe_router_topk 1 (= 2)"));
}

TEST(MegatronMoe, SinkhornWeighsOneChoiceByItsScoreAndSeveralByTheirShare) {
  const Json sinkhorn = {{"moe_router_load_balancing_type", "sinkhorn"}};
  Json one = sinkhorn;
  one["moe_router_topk"] = 1;
  const RouterSpec several = moe_of(model_of(sinkhorn).layers[0])->router;
  const RouterSpec alone = moe_of(model_of(one).layers[0])->router;
  EXPECT_TRUE(several.sinkhorn);
  EXPECT_EQ(several.score, RouterScore::kSoftmax);
  EXPECT_FALSE(several.normalize);
  EXPECT_EQ(alone.score, RouterScore::kSigmoid);
  Json bad = sinkhorn;
  bad["moe_expert_capacity_factor"] = 1.0;
  EXPECT_THAT(error_of<ConfigError>(bad), HasSubstr("moe_expert_capacity_factor = 1"));
  bad = sinkhorn;
  bad["moe_router_score_function"] = "sigmoid";
  EXPECT_THAT(error_of<ConfigError>(bad), HasSubstr("sinkhorn"));
}

TEST(MegatronMoe, WhatIsMissingIsRefused) {
  const auto error = [](const Json& changes) { return error_of<UnsupportedError>(changes); };
  EXPECT_THAT(error({{"moe_input_jitter_eps", 0.1}}), HasSubstr("moe_input_jitter_eps = 0.1"));
  EXPECT_THAT(error({{"moe_n_hash_layers", 1}}), HasSubstr("moe_n_hash_layers = 1"));
  EXPECT_THAT(error({{"moe_router_dtype", "fp64"}}), HasSubstr("moe_router_dtype = fp64"));
  EXPECT_THAT(error({{"moe_router_force_load_balancing", true}}),
              HasSubstr("moe_router_force_load_balancing"));
}

TEST(MegatronMoe, NegativeCapacityIsNone) {
  const ModelSpec model = model_of({{"moe_expert_capacity_factor", -1.0}});
  EXPECT_FALSE(moe_of(model.layers[0])->capacity.has_value());
}

}  // namespace
}  // namespace headway::spec
