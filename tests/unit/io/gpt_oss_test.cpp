// Families qwen2 and gpt_oss: what their configs say without words, and what they cannot hold.
// Not for: forward passes (tests/golden).
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/io/family_configs.h"

namespace headway::io {
namespace {

using testing::HasSubstr;

TEST(Qwen2, HasBiasesThatNoKeySays) {
  Json config = plain_config("qwen2");
  config["attention_bias"] = false;  // unknown to the family
  const spec::ModelSpec spec = read_spec(config);
  const auto& attention = std::get<spec::AttentionSpec>(spec.layers[0].mixer);
  EXPECT_TRUE(attention.qkv_bias);
  EXPECT_FALSE(attention.output_bias || attention.q_norm || attention.window);
  config.erase("head_dim");
  EXPECT_EQ(std::get<spec::AttentionSpec>(read_spec(config).layers[0].mixer).head_dim, 4);
  config.update(
      Json{{"use_sliding_window", true}, {"sliding_window", 5}, {"max_window_layers", 2}});
  const spec::ModelSpec windowed = read_spec(config);
  EXPECT_FALSE(std::get<spec::AttentionSpec>(windowed.layers[1].mixer).window);
  EXPECT_EQ(std::get<spec::AttentionSpec>(windowed.layers[2].mixer).window, 5);
  EXPECT_THAT(reasons_against(find_family("qwen3"), spec), testing::Not(testing::IsEmpty()));
  EXPECT_THAT(reasons_against(find_family("qwen2"), read_spec(plain_config("llama"))),
              testing::ElementsAre(HasSubstr("no biases of q, k and v")));
}

Json gpt_oss_config() {
  Json config = plain_config("gpt_oss");
  config.erase("rope_theta");
  config.update(Json{{"num_local_experts", 3}, {"num_experts_per_tok", 2}, {"sliding_window", 4}});
  return config;
}

TEST(GptOss, StretchesPositionsUnlessToldOtherwise) {
  const auto rope = [](const Json& more) {
    Json config = gpt_oss_config();
    config.update(more);
    return *std::get<spec::AttentionSpec>(read_spec(config).layers[0].mixer).rope;
  };
  for (const Json& silent : {Json::object(), Json{{"rope_scaling", nullptr}}}) {
    EXPECT_EQ(rope(silent).kind, spec::RopeKind::kYarn);
    EXPECT_EQ(rope(silent).factor, 32);
    EXPECT_FALSE(rope(silent).truncate);
    EXPECT_EQ(rope(silent).base, 150000);
  }
  const Json plain = {{"rope_parameters", {{"rope_type", "default"}, {"rope_theta", 1e4}}}};
  EXPECT_EQ(rope(plain).kind, spec::RopeKind::kDefault);
  Json config = gpt_oss_config();
  config.update(plain);
  const spec::ModelSpec spec = read_spec(config);
  EXPECT_TRUE(read_spec(export_config(find_family("gpt_oss"), spec, {})) == spec);
}

TEST(GptOss, LayersAndExperts) {
  const spec::ModelSpec spec = read_spec(gpt_oss_config());
  const auto& first = std::get<spec::AttentionSpec>(spec.layers[0].mixer);
  EXPECT_EQ(first.window, 4);
  EXPECT_EQ(first.sinks, spec::SinkKind::kLearnable);
  EXPECT_FALSE(std::get<spec::AttentionSpec>(spec.layers[1].mixer).window);
  const spec::MoeSpec& moe = *spec::moe_of(spec.layers[0]);
  EXPECT_TRUE(moe.bias && moe.router.bias && moe.limit_input);
  EXPECT_EQ(moe.limit, 7.0);
  EXPECT_EQ(moe.linear_offset, 1.0);
  Json other = gpt_oss_config();
  other["swiglu_alpha"] = 2.0;
  EXPECT_THAT(config_error(other), HasSubstr("swiglu_alpha"));
  EXPECT_THAT(reasons_against(find_family("gpt_oss"), read_spec(plain_config("llama"))),
              testing::Contains(HasSubstr("no learnable sinks")));
}

}  // namespace
}  // namespace headway::io
