// What `inspect` shows.
#include "headway/spec/describe.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "headway/base/text_util.h"
#include "headway/spec/layer_words.h"
#include "headway/spec/spec_json.h"

#include "tests/unit/spec/specs.h"

namespace headway::spec {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::MatchesRegex;

TEST(Describe, RunsOfEqualLayers) {
  EXPECT_EQ(stack_line(mixed_spec()), "A Bx3 A B");
  EXPECT_THAT(layer_kinds(mixed_spec()), ElementsAre("A", "B", "B", "B", "A", "B"));
  EXPECT_EQ(stack_line(mixed_spec({"model.rotary_base_per_layer=[1, 2, 2, 3, 1, 2]"})),
            "A Bx2 C A B");
}

TEST(Describe, ManyKindsGetNumbers) {
  ModelSpec spec = mixed_spec();
  spec.layers.resize(28, spec.layers[0]);
  for (size_t i = 0; i < 28; ++i) std::get<AttentionSpec>(spec.layers[i].mixer).window = i + 1;
  const auto kinds = layer_kinds(spec);
  EXPECT_EQ(kinds[25], "Z");
  EXPECT_EQ(kinds[26], "A1");
  EXPECT_EQ(kinds[27], "B1");
}

TEST(Describe, OneRowALayerWithItsDifferences) {
  const std::string text = describe_text(mixed_spec());
  const auto lines = split(text, '\n');
  EXPECT_THAT(
      text, HasSubstr("stack   A Bx3 A B\n        A = global (2 layers), B = local (4 layers)\n"));
  const auto row = [&](const std::string& start) {
    for (const std::string& line : lines) {
      if (line.starts_with(start)) return line;
    }
    return std::string();
  };
  EXPECT_THAT(
      row("    0  A "),
      MatchesRegex(" +0  A +global +attention +4:2 +16 +all +5e\\+06 x0.5 +head_wise +own +64 silu "
                   "gated +pre rms +18,720 +128 B/token .*"));
  EXPECT_THAT(
      row("    5  B "),
      MatchesRegex(" +5  B +local +attention +6:2 +16 +8 +1[0e+4]+ +head_wise +own .*1.00 KiB .*"));
  EXPECT_THAT(text, HasSubstr("parameters  "));
  EXPECT_THAT(text, HasSubstr("256 B/token + 4.00 KiB = "));
}

TEST(Describe, WordsForEveryFeature) {
  const std::string local = "model.blocks.local.";
  const ModelSpec spec = mixed_spec(
      {local +
           "attention={num_heads: 4, head_dim: 8, v_head_dim: 4, window: 5000, gate: element_wise, "
           "rope: {kind: llama3, factor: 8, layout: interleaved}, sinks: learnable, "
           "logit_softcap: 50, qk_norm: true, qkv_bias: true}",
       local + "mlp={intermediate_size: 9, activation: gelu_tanh, gated: false, bias: true}",
       local + "norms={placement: sandwich, weight: zero_centered}", local + "layer_scalar=true"});
  const LayerWords words = layer_words(spec.layers[1]);
  EXPECT_EQ(words.mixer, "attention qk-norm cap 50 sinks:learnable bias");
  EXPECT_EQ(words.heads, "4");
  EXPECT_EQ(words.head_dim, "8/4");
  EXPECT_EQ(words.window, "5,000");
  EXPECT_EQ(words.rope, "10000 llama3:8 interleaved");
  EXPECT_EQ(words.gate, "element_wise");
  EXPECT_EQ(words.mlp, "9 gelu_tanh bias");
  EXPECT_EQ(words.norms, "sandwich rms zero_centered scalar");
  ModelSpec open = spec;
  auto& attention = std::get<AttentionSpec>(open.layers[1].mixer);
  attention.mask = MaskKind::kNone;
  attention.window_ahead = 3;
  attention.dropout = 0.1;
  attention.rope->sections = {1, 1, 2};
  EXPECT_EQ(layer_words(open.layers[1]).window, "5,000+3");
  EXPECT_EQ(layer_words(open.layers[1]).mixer,
            "attention qk-norm cap 50 sinks:learnable dropout 0.1 bias");
  EXPECT_EQ(layer_words(open.layers[1]).rope, "10000 llama3:8 interleaved thw:1/1/2");
  ModelSpec bare = spec;
  std::get<AttentionSpec>(bare.layers[1].mixer).rope.reset();
  bare.layers[1].pre_mixer_norm.reset();
  bare.layers[1].pre_mlp_norm.reset();
  EXPECT_EQ(layer_words(bare.layers[1]).rope, "none");
  EXPECT_EQ(layer_words(bare.layers[1]).norms, "post rms zero_centered scalar");
}

TEST(Describe, JsonHasNumbersAndTheSpec) {
  const ModelSpec spec = mixed_spec();
  const Json json = describe_json(spec);
  EXPECT_EQ(json["stack"], "A Bx3 A B");
  EXPECT_EQ(json["layers"].size(), 6u);
  EXPECT_EQ(json["layers"][1]["window"], 8);
  EXPECT_EQ(json["layers"][0]["window"], nullptr);
  EXPECT_EQ(json["layers"][0]["rope"]["base"], 5e6);
  EXPECT_EQ(json["layers"][0]["gate"], "head_wise");
  EXPECT_EQ(json["layers"][0]["mlp"]["intermediate_size"], 64);
  EXPECT_EQ(json["layers"][0]["kv_source"], "own");
  EXPECT_EQ(json["layers"][0]["parameters"], 18720);
  EXPECT_EQ(json["totals"]["state_bytes_per_token"], 256);
  EXPECT_EQ(spec_from_json(json["spec"], "describe"), spec);
}

}  // namespace
}  // namespace headway::spec
