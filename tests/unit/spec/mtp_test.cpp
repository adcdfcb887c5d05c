// Multi-token prediction in run files, specs, inventory, costs and Megatron's arguments.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "headway/base/error.h"
#include "headway/spec/cost.h"
#include "headway/spec/describe.h"
#include "headway/spec/megatron.h"
#include "headway/spec/spec_json.h"
#include "headway/spec/tensor_inventory.h"

#include "tests/support/message_of.h"
#include "tests/unit/spec/specs.h"

namespace headway::spec {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing_support::message_of;

TEST(MtpSpec, ABlockForEveryDepth) {
  const ModelSpec spec = mixed_spec({"model.mtp=2"});
  ASSERT_TRUE(spec.mtp);
  EXPECT_EQ(spec.mtp->depths(), 2);
  EXPECT_EQ(spec.mtp->layers[1], spec.layers[5]);
  EXPECT_EQ(spec.mtp->hidden, MtpHidden::kNormed);
  EXPECT_EQ(spec.mtp->embedding_norm, spec.head.final_norm);
  EXPECT_EQ(spec.mtp->loss_scale, 0.1);
  const ModelSpec global = mixed_spec(
      {"model.mtp.block=global", "model.mtp.hidden=residual", "model.mtp.own_head=true"});
  EXPECT_EQ(global.mtp->depths(), 1);
  EXPECT_EQ(global.mtp->layers[0], spec.layers[0]);
  EXPECT_EQ(global.mtp->hidden, MtpHidden::kResidual);
  EXPECT_EQ(spec_from_json(to_json(global), "spec"), global);
}

TEST(MtpSpec, BasesFollowThoseOfTheStack) {
  const std::string bases = "model.rotary_base_per_layer=[1e4,2e4,3e4,4e4,5e4,6e4,7e4,8e4]";
  const ModelSpec spec = mixed_spec({"model.mtp=2", bases});
  EXPECT_EQ(attention_of(spec.layers[5])->rope->base, 6e4);
  EXPECT_EQ(attention_of(spec.mtp->layers[1])->rope->base, 8e4);
  EXPECT_THAT(message_of<ConfigError>([&] {
                mixed_spec({"model.mtp=1", bases});
              }),
              HasSubstr("rotary_base_per_layer length (8) must equal num_layers (7)"));
  EXPECT_THAT(message_of<ConfigError>([&] {
                mixed_spec({"model.mtp.depths=2", "model.mtp.shared_weights=true", bases});
              }),
              HasSubstr("model.mtp.layers[1]: differs from layers[0]"));
}

TEST(MtpSpec, WrongValuesAreNamed) {
  const auto error = [](const std::vector<std::string>& overrides) {
    return message_of<ConfigError>([&] { mixed_spec(overrides); });
  };
  EXPECT_THAT(error({"model.mtp=0"}), HasSubstr("model.mtp.depths = 0"));
  EXPECT_THAT(error({"model.mtp.depths=65"}), HasSubstr("model.mtp.depths = 65"));
  EXPECT_THAT(error({"model.mtp.block=globl"}), HasSubstr("model.mtp.block"));
  EXPECT_THAT(error({"model.mtp.loss_scale=-1"}), HasSubstr("model.mtp.loss_scale"));
  EXPECT_THAT(error({"model.mtp.depth=1"}), HasSubstr("model.mtp.depth"));
  ModelSpec spec = mixed_spec({"model.mtp=1"});
  spec.mtp->layers.clear();
  EXPECT_THAT(message_of<ConfigError>([&] { validate(spec); }), HasSubstr("model.mtp.layers"));
}

TEST(MtpSpec, TensorsStandBehindTheStack) {
  const ModelSpec spec = mixed_spec({"model.mtp.depths=2", "model.mtp.own_head=true"});
  std::vector<std::string> ours, disk;
  for (const TensorSpec& tensor : tensors(spec)) {
    if (tensor.layer != 7) continue;
    ours.push_back(tensor.name);
    for (const RowSegment& segment : tensor.segments) disk.push_back(segment.disk_name);
  }
  EXPECT_THAT(
      ours,
      ElementsAre("mtp.layers.1.embedding_norm.weight", "mtp.layers.1.hidden_norm.weight",
                  "mtp.layers.1.proj.weight", "mtp.layers.1.block.pre_mixer_norm.weight",
                  "mtp.layers.1.block.mixer.qkv.weight", "mtp.layers.1.block.mixer.out.weight",
                  "mtp.layers.1.block.pre_mlp_norm.weight", "mtp.layers.1.block.mlp.up.weight",
                  "mtp.layers.1.block.mlp.down.weight", "mtp.layers.1.final_norm.weight",
                  "mtp.layers.1.head.weight"));
  const std::string scope = "model.layers.7.";
  EXPECT_EQ(disk[0], scope + "enorm.weight");
  EXPECT_EQ(disk[2], scope + "eh_proj.weight");
  EXPECT_EQ(disk[4], scope + "self_attn.q_proj.weight");
  EXPECT_EQ(disk.back(), scope + "shared_head.head.weight");
  EXPECT_EQ(num_blocks(spec), 8);
  EXPECT_EQ(block_scope(spec, 5), "layers.5.");
  EXPECT_EQ(block_scope(spec, 7), "mtp.layers.1.block.");
  EXPECT_EQ(num_blocks(mixed_spec({"model.mtp.depths=2", "model.mtp.shared_weights=true"})), 7);
}

TEST(MtpSpec, CostsCountEveryParameterOnce) {
  for (const char* shared : {"true", "false"}) {
    for (const char* head : {"true", "false"}) {
      const ModelSpec spec =
          mixed_spec({"model.mtp.depths=3", std::string("model.mtp.shared_weights=") + shared,
                      std::string("model.mtp.own_head=") + head});
      int64_t parameters = 0;
      for (const TensorSpec& tensor : tensors(spec)) parameters += tensor.numel();
      const ModelCost costs = cost(spec);
      EXPECT_EQ(costs.total.parameters, parameters) << shared << head;
      EXPECT_EQ(costs.decoder, cost(mixed_spec()).total);
      ASSERT_EQ(costs.mtp.size(), 3u);
      // proj, layer and logits of every depth.
      const double flops = 2.0 * 48 * 96 + costs.layers[5].matmul_flops + 2.0 * 48 * 256;
      EXPECT_EQ(costs.mtp[2].matmul_flops, flops);
    }
  }
}

TEST(MtpSpec, DescriptionShowsTheDepths) {
  const ModelSpec spec = mixed_spec({"model.mtp=2"});
  const std::string text = describe_text(spec);
  EXPECT_THAT(text, HasSubstr("2 tokens ahead (mtp)"));
  EXPECT_THAT(text, HasSubstr("   +2  mtp   local"));
  const Json json = describe_json(spec);
  EXPECT_EQ(json["mtp"].size(), 2u);
  EXPECT_EQ(json["mtp"][1]["depth"], 2);
  EXPECT_EQ(json["num_layers"], 6);
  EXPECT_GT(json["totals"]["parameters"], json["decoder"]["parameters"]);
}

Json arguments(const Json& changes) {
  Json json = {{"num_layers", 4},  {"hidden_size", 32},   {"num_attention_heads", 4},
               {"vocab_size", 50}, {"kv_channels", 8},    {"normalization", "RMSNorm"},
               {"swiglu", true},   {"mtp_num_layers", 2}, {"add_bias_linear", false}};
  json.update(changes);
  return json;
}

TEST(MegatronMtp, RepeatsTheLastLayerWithEntriesOfItsOwn) {
  const ModelSpec plain = from_megatron(arguments({{"mtp_loss_scaling_factor", 0.3}}));
  ASSERT_TRUE(plain.mtp);
  EXPECT_EQ(plain.mtp->layers[1], plain.layers[3]);
  EXPECT_EQ(plain.mtp->loss_scale, 0.3);
  EXPECT_FALSE(plain.mtp->own_head || plain.mtp->detach || plain.mtp->shared_weights);
  const ModelSpec other =
      from_megatron(arguments({{"rotary_base_per_layer", {1e4, 1e4, 1e4, 1e4, 2e4, 3e4}},
                               {"mtp_detach_heads", true},
                               {"no_rope_freq", 2},
                               {"window_size", {4, 0}},
                               {"window_attn_skip_freq", {1, 1, 1, 1, 0, 1}}}));
  EXPECT_TRUE(other.mtp->detach);
  const AttentionSpec* first = attention_of(other.mtp->layers[0]);
  const AttentionSpec* second = attention_of(other.mtp->layers[1]);
  EXPECT_EQ(first->rope->base, 2e4);
  EXPECT_EQ(second->rope->base, 3e4);  // the last layer of the stack has no rotary positions
  EXPECT_FALSE(attention_of(other.layers[3])->rope);
  EXPECT_FALSE(first->window);
  EXPECT_EQ(second->window, 5);
  const ModelSpec shared = from_megatron(arguments({{"mtp_use_repeated_layer", true}}));
  EXPECT_EQ(shared.mtp->depths(), 2);
  EXPECT_EQ(shared.mtp->weight_sets(), 1);
}

TEST(MegatronMtp, ExpertsFollowTheLastLayer) {
  const Json moe = {{"num_moe_experts", 4}, {"moe_ffn_hidden_size", 8}};
  Json last = moe, first = moe;
  last["moe_layer_freq"] = {0, 0, 0, 1};
  first["moe_layer_freq"] = {1, 0, 0, 0};
  EXPECT_NE(moe_of(from_megatron(arguments(last)).mtp->layers[0]), nullptr);
  EXPECT_EQ(moe_of(from_megatron(arguments(first)).mtp->layers[1]), nullptr);
}

}  // namespace
}  // namespace headway::spec
