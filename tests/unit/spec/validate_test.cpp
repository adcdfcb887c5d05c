// Every rule that no model may break, with its text.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "headway/base/error.h"

#include "tests/unit/spec/specs.h"

namespace headway::spec {
namespace {

using ::testing::ElementsAre;

template <class Change>
std::vector<std::string> problems_of(Change&& change) {
  ModelSpec spec = mixed_spec();
  change(spec);
  try {
    validate(spec);
  } catch (const ConfigError& error) {
    return error.problems();
  }
  return {};
}

AttentionSpec& attention(ModelSpec& spec, size_t layer) {
  return std::get<AttentionSpec>(spec.layers[layer].mixer);
}

const std::string kFirst = "model.layers[0].mixer.attention.";

TEST(Validate, AcceptsASoundModel) {
  EXPECT_THAT(problems_of([](ModelSpec&) {}), ElementsAre());
}

TEST(Validate, Ranges) {
  EXPECT_THAT(problems_of([](ModelSpec& s) { s.hidden_size = 0; }),
              ElementsAre("model.hidden_size = 0: allowed an integer in [1, 16777216]"));
  EXPECT_THAT(problems_of([](ModelSpec& s) { s.embedding.vocab_size = 0; }),
              ElementsAre("model.embedding.vocab_size = 0: allowed an integer in [1, 2147483647]"));
  EXPECT_THAT(
      problems_of([](ModelSpec& s) { s.layers.clear(); }),
      ElementsAre(
          "model.layers = an empty list: allowed a list that is not empty, each a mapping"));
  EXPECT_THAT(problems_of([](ModelSpec& s) { attention(s, 0).head_dim = 0; }),
              ElementsAre(kFirst + "head_dim = 0: allowed an integer in [1, 65536]"));
  EXPECT_THAT(problems_of([](ModelSpec& s) { attention(s, 0).num_kv_heads = 3; }),
              ElementsAre(kFirst + "num_kv_heads = 3: allowed a divisor of num_heads (= 4)"));
  EXPECT_THAT(problems_of([](ModelSpec& s) { attention(s, 0).scale = NAN; }),
              ElementsAre(kFirst + "scale = nan: allowed a finite number > 0"));
  EXPECT_THAT(problems_of([](ModelSpec& s) { attention(s, 0).window = 0; }),
              ElementsAre(kFirst + "window = 0: allowed an integer in [1, 1099511627776]"));
  EXPECT_THAT(problems_of([](ModelSpec& s) { attention(s, 0).rope->base = INFINITY; }),
              ElementsAre(kFirst + "rope.base = inf: allowed a finite number > 0"));
  EXPECT_THAT(
      problems_of(
          [](ModelSpec& s) { std::get<DenseMlpSpec>(s.layers[2].mlp).intermediate_size = -1; }),
      ElementsAre(
          "model.layers[2].mlp.dense.intermediate_size = -1: allowed an integer in [1, 16777216]"));
  EXPECT_THAT(problems_of([](ModelSpec& s) { s.head.softcap = 0; }),
              ElementsAre("model.head.softcap = 0: allowed a number > 0"));
  EXPECT_THAT(problems_of([](ModelSpec& s) { s.layers[0].pre_mlp_norm->eps = -1; }),
              ElementsAre("model.layers[0].pre_mlp_norm.eps = -1: allowed a number >= 0"));
  EXPECT_THAT(
      problems_of([](ModelSpec& s) { attention(s, 0).sinks = static_cast<SinkKind>(9); }),
      ElementsAre(
          kFirst +
          "sinks = \"?\": allowed none | off_by_one | learnable; Softmax type not supported"));
}

TEST(Validate, RulesOverSeveralFields) {
  EXPECT_THAT(
      problems_of([](ModelSpec& s) { attention(s, 0).rope->fraction = 0.2; }),
      ElementsAre(
          kFirst +
          "rope.fraction = 0.2: allowed a fraction that rotates an even, positive number of "
          "channels; int(head_dim x fraction) = int(16 x 0.2) = 3"));
  EXPECT_THAT(
      problems_of([](ModelSpec& s) { attention(s, 0).gate.init = GateInit::kConstant; }),
      ElementsAre(
          kFirst +
          "gate.init = constant: allowed normal | zero without a gate bias; set gate_bias: true"));
  EXPECT_THAT(problems_of([](ModelSpec& s) {
                auto& mlp = std::get<DenseMlpSpec>(s.layers[1].mlp);
                mlp.gated = false;
                mlp.limit = 7;
              }),
              ElementsAre("model.layers[1].mlp.dense.limit = 7: allowed only with gated true"));
  EXPECT_THAT(problems_of([](ModelSpec& s) { s.head.final_norm->bias = true; }),
              ElementsAre("model.head.final_norm.bias = true: allowed false unless kind is layer "
                          "and it has a weight"));
  EXPECT_THAT(
      problems_of([](ModelSpec& s) { s.embedding.padding_id = 256; }),
      ElementsAre("model.embedding.padding_id = 256: allowed an id below vocab_size (= 256)"));
  EXPECT_THAT(problems_of([](ModelSpec& s) { s.layers.resize(10001, s.layers[0]); }),
              ElementsAre("model.layers = 10001 layers: allowed at most 10000"));
}

TEST(Validate, BasePerLayerNeedsRotation) {
  const auto lines = problems_of([](ModelSpec& s) {
    s.rope_per_layer = true;
    for (size_t i = 0; i < s.layers.size(); ++i) attention(s, i).rope.reset();
  });
  ASSERT_EQ(lines.size(), 1u);
  EXPECT_THAT(lines[0], testing::HasSubstr("position type \"none\", which has no base"));
}

TEST(Validate, ReportsEverythingAtOnce) {
  EXPECT_EQ(problems_of([](ModelSpec& s) {
              s.hidden_size = -1;
              attention(s, 1).num_heads = 0;
              attention(s, 2).rope->fraction = 2;
            }).size(),
            3u);
}

TEST(AttentionOf, FindsTheMixer) {
  const ModelSpec spec = mixed_spec();
  EXPECT_EQ(attention_of(spec.layers[0]), &std::get<AttentionSpec>(spec.layers[0].mixer));
}

}  // namespace
}  // namespace headway::spec
