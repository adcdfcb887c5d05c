// What a cross-attention layer may be, and the parameters it owns.
#include "headway/spec/cross_attention.h"

#include <cmath>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "headway/base/error.h"

namespace headway::spec {
namespace {

using testing::HasSubstr;

AttentionSpec self_attention() {
  AttentionSpec self;
  self.num_heads = self.num_kv_heads = 4;
  self.head_dim = 8;
  self.v_head_dim = 6;
  self.scale = 0.3;
  self.rope = RopeSpec{};
  self.sinks = SinkKind::kLearnable;
  self.qkv_bias = self.output_bias = true;
  self.logit_softcap = 20.0;
  return self;
}

std::string error_of(const AttentionSpec& self) {
  try {
    cross_attention(self, 32, 48);
  } catch (const ConfigError& error) {
    return error.what();
  }
  return "no ConfigError";
}

TEST(CrossAttentionSpec, TakesWhatBothHave) {
  const CrossAttentionSpec cross = cross_attention(self_attention(), 32, 48);
  EXPECT_EQ(cross.hidden_size, 32);
  EXPECT_EQ(cross.context_size, 48);
  EXPECT_EQ(cross.num_heads, 4);
  EXPECT_EQ(cross.v_head_dim, 6);
  EXPECT_EQ(cross.scale, 0.3);
  EXPECT_TRUE(cross.rope.has_value());
  EXPECT_EQ(cross.sinks, SinkKind::kLearnable);
  EXPECT_EQ(cross.logit_softcap, 20.0);
}

TEST(CrossAttentionSpec, RefusesWhatIsForSelfAttentionOnly) {
  AttentionSpec self = self_attention();
  self.num_kv_heads = 2;
  EXPECT_THAT(error_of(self),
              HasSubstr("Group query attention is not currently supported in cross attention"));
  self = self_attention();
  self.gate.kind = GateKind::kHeadWise;
  EXPECT_THAT(error_of(self), HasSubstr("gate = head_wise: allowed none: gates are for self-att"));
  self = self_attention();
  self.gate.kind = GateKind::kElementWise;
  EXPECT_THAT(error_of(self), HasSubstr("gates are for self-attention only"));
  self = self_attention();
  self.q_norm = NormSpec{};
  EXPECT_THAT(error_of(self), HasSubstr("norms are for self-attention only"));
  self = self_attention();
  self.window = 4;
  EXPECT_THAT(error_of(self), HasSubstr("window = 4: allowed none"));
}

TEST(CrossAttentionSpec, ListsEveryBadValue) {
  CrossAttentionSpec cross = cross_attention(self_attention(), 32, 48);
  cross.context_size = 0;
  cross.head_dim = -3;
  cross.scale = NAN;
  cross.logit_softcap = -1.0;
  try {
    validate(cross);
    ADD_FAILURE();
  } catch (const ConfigError& error) {
    for (const char* field : {"context_size = 0", "head_dim = -3", "scale", "logit_softcap"}) {
      EXPECT_THAT(error.what(), HasSubstr(field));
    }
  }
  cross = cross_attention(self_attention(), 32, 48);
  cross.rope->fraction = 0.4;  // int(8 x 0.4) = 3 channels
  EXPECT_THROW(validate(cross), ConfigError);
}

TEST(CrossAttentionSpec, ParametersAreListedOnce) {
  const CrossAttentionSpec cross = cross_attention(self_attention(), 32, 48);
  InitSpec init;
  const auto tensors = cross_attention_tensors(cross, init, 8, "decoder.0.cross.");
  std::vector<std::string> names;
  int64_t total = 0;
  for (const TensorSpec& tensor : tensors) {
    names.push_back(tensor.name.substr(std::string("decoder.0.cross.").size()));
    total += tensor.numel();
  }
  EXPECT_THAT(names, testing::ElementsAre("q.weight", "q.bias", "kv.weight", "kv.bias",
                                          "out.weight", "out.bias", "sinks"));
  EXPECT_EQ(total, 32 * 32 + 32 + 56 * 48 + 56 + 32 * 24 + 32 + 4);
  const TensorSpec& kv = tensors[2];
  ASSERT_EQ(kv.segments.size(), 2u);
  EXPECT_EQ(kv.segments[0].name, "k");
  EXPECT_EQ(kv.segments[0].rows, 32);
  EXPECT_EQ(kv.segments[1].begin, 32);
  EXPECT_EQ(kv.segments[1].rows, 24);
  EXPECT_DOUBLE_EQ(tensors[4].segments[0].init.value, 0.02 / std::sqrt(16.0));
  EXPECT_TRUE(kv.segments[0].decay);
  EXPECT_FALSE(tensors[3].segments[0].decay);
  EXPECT_THROW(cross_attention_tensors(cross, init, 0, ""), ConfigError);
}

}  // namespace
}  // namespace headway::spec
