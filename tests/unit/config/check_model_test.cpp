// Every rule over several fields of a model, with its text.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "headway/base/error.h"
#include "headway/config/load.h"
#include "headway/config/part_checks.h"
#include "headway/config/stack.h"

namespace headway::config {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::StartsWith;

constexpr const char* kModel = R"(
model:
  hidden_size: 64
  blocks:
    global: {attention: {num_heads: 4, head_dim: 16}, mlp: {intermediate_size: 32}}
    local: {attention: {num_heads: 4, head_dim: 16, window: 8}, mlp: {intermediate_size: 32}}
  pattern: [global, local]
  num_layers: 4
)";

std::vector<std::string> problems_of(const std::vector<std::string>& overrides) {
  LoadOptions look;
  look.needs_training = false;
  try {
    parse_run(kModel, "m", overrides, look);
  } catch (const ConfigError& error) {
    return error.problems();
  }
  return {};
}

std::string problem_with(const std::vector<std::string>& overrides) {
  const auto lines = problems_of(overrides);
  EXPECT_EQ(lines.size(), 1u) << overrides[0];
  return lines.empty() ? "" : lines[0].substr(0, lines[0].rfind(" ["));
}

const std::string kGlobal = "model.blocks.global.";

TEST(CheckModel, AcceptsTheBase) { EXPECT_THAT(problems_of({}), ElementsAre()); }

TEST(CheckModel, Heads) {
  EXPECT_EQ(problem_with({kGlobal + "attention.num_kv_heads=3"}),
            kGlobal + "attention.num_kv_heads = 3: allowed a divisor of num_heads (= 4)");
  EXPECT_EQ(problem_with({kGlobal + "attention.num_kv_heads=0"}),
            kGlobal + "attention.num_kv_heads = 0: allowed an integer in [1, 65536]");
  EXPECT_EQ(problem_with({kGlobal + "attention.head_dim=-4"}),
            kGlobal + "attention.head_dim = -4: allowed an integer in [1, 65536]");
  EXPECT_EQ(
      problem_with({kGlobal + "attention={num_heads: 5}"}),
      kGlobal +
          "attention.head_dim: missing; hidden_size (= 64) is not a multiple of num_heads (= 5)");
  EXPECT_EQ(problem_with({kGlobal + "attention.window=0"}),
            kGlobal + "attention.window = 0: allowed an integer in [1, 1099511627776]");
}

TEST(CheckModel, Rotation) {
  EXPECT_EQ(problem_with({kGlobal + "attention.rope={fraction: 0.2}"}),
            kGlobal +
                "attention.rope.fraction = 0.2: allowed a fraction that rotates an even, positive "
                "number of channels; int(head_dim x fraction) = int(16 x 0.2) = 3");
  EXPECT_THAT(problem_with({kGlobal + "attention.rope={fraction: 0.05}"}),
              HasSubstr("= int(16 x 0.05) = 0"));
  EXPECT_THAT(problem_with({kGlobal + "attention.rope={kind: proportional, fraction: 0.1}"}),
              HasSubstr("= 1"));
  EXPECT_THAT(problems_of({kGlobal + "attention.rope={kind: proportional, fraction: 0.2}"}),
              ElementsAre());
  EXPECT_EQ(problem_with({kGlobal + "attention.rope={kind: yarn, layout: interleaved}"}),
            kGlobal + "attention.rope.layout = interleaved: allowed half for kind yarn");
  EXPECT_EQ(problem_with({kGlobal + "attention.rope={kind: yarn, base: 1}"}),
            kGlobal + "attention.rope.base = 1: allowed a number > 1 for kind yarn");
  EXPECT_EQ(problem_with({kGlobal + "attention.rope={kind: yarn, beta_fast: 0.5}"}),
            kGlobal + "attention.rope.beta_fast = 0.5: allowed at least beta_slow (= 1)");
  EXPECT_EQ(
      problem_with({kGlobal + "attention.rope={kind: llama3, high_freq_factor: 1}"}),
      kGlobal + "attention.rope.high_freq_factor = 1: allowed more than low_freq_factor (= 1)");
  EXPECT_EQ(problem_with({kGlobal + "attention.rope={factor: 2}"}),
            kGlobal +
                "attention.rope.factor = 2: allowed only with kind linear | llama3 | yarn | "
                "proportional (kind = default)");
  EXPECT_EQ(problem_with({kGlobal + "attention.rope={kind: linear, mscale: 1}"}),
            kGlobal + "attention.rope.mscale = 1: allowed only with kind yarn (kind = linear)");
  EXPECT_EQ(problem_with({kGlobal + "attention.rope={base: 0}"}),
            kGlobal + "attention.rope.base = 0: allowed a number > 0");
  EXPECT_EQ(
      problem_with({kGlobal + "attention.rope=ntk"}),
      kGlobal +
          "attention.rope.kind = \"ntk\": allowed default | linear | llama3 | yarn | proportional");
}

TEST(CheckModel, Masks) {
  EXPECT_EQ(problem_with({kGlobal + "attention.window_ahead=3"}),
            kGlobal + "attention.window_ahead = 3: allowed only with mask none (mask = causal)");
  EXPECT_THAT(problems_of({kGlobal + "attention.mask=none", kGlobal + "attention.window_ahead=3"}),
              ElementsAre());
  EXPECT_EQ(problem_with({kGlobal + "attention.mask=padding"}),
            kGlobal + "attention.mask = \"padding\": allowed causal | none");
  EXPECT_EQ(problem_with({kGlobal + "attention.dropout=1"}),
            kGlobal + "attention.dropout = 1: allowed a number in [0, 1)");
}

TEST(CheckModel, SectionsCoverTheRotatedPairs) {
  EXPECT_THAT(problems_of({kGlobal + "attention.rope={sections: [2, 3, 3]}"}), ElementsAre());
  EXPECT_THAT(problems_of({kGlobal + "attention.rope={kind: linear, factor: 2, sections: [3, 3, "
                                     "2], sections_interleaved: true}"}),
              ElementsAre());
  EXPECT_THAT(
      problem_with({kGlobal + "attention.rope={sections: [2, 3, 2]}"}),
      StartsWith(kGlobal + "attention.rope.sections = [2, 3, 2]: allowed three integers >= 0 "
                           "whose sum is half the rotated channels (= 8)"));
  EXPECT_THAT(problem_with({kGlobal + "attention.rope={sections: [2, 3, 3], sections_interleaved: "
                                      "true}"}),
              StartsWith(kGlobal + "attention.rope.sections = [2, 3, 3]: allowed [3, 3, 2] with "
                                   "sections_interleaved"));
  EXPECT_EQ(problem_with({kGlobal + "attention.rope={sections_interleaved: true}"}),
            kGlobal + "attention.rope.sections_interleaved = true: allowed only with sections");
  EXPECT_THAT(
      problem_with({kGlobal + "attention.rope={kind: yarn, sections: [2, 3, 3]}"}),
      StartsWith(kGlobal + "attention.rope.kind = yarn: allowed default | linear with sections"));
}

TEST(CheckModel, Gates) {
  EXPECT_EQ(problem_with({kGlobal + "attention.gate={kind: head_wise, init: constant, value: 2}",
                          kGlobal + "attention.gate_bias=false"}),
            kGlobal +
                "attention.gate.init = constant: allowed normal | zero without a gate bias; set "
                "gate_bias: true");
  EXPECT_THAT(problems_of({kGlobal + "attention.gate={kind: head_wise, init: constant, value: 2}"}),
              ElementsAre());
  EXPECT_EQ(
      problem_with({kGlobal + "attention.gate={init: zero}"}),
      kGlobal + "attention.gate.init = zero: allowed only with kind head_wise | element_wise");
  EXPECT_EQ(problem_with({kGlobal + "attention.gate={kind: head_wise, value: 2}"}),
            kGlobal + "attention.gate.value = 2: allowed only with init constant (init = normal)");
  EXPECT_EQ(
      problem_with({kGlobal + "attention.gate_bias=true"}),
      kGlobal + "attention.gate_bias = true: allowed only with gate head_wise | element_wise");
}

TEST(CheckModel, SinksNameTheUpstreamMessage) {
  EXPECT_EQ(
      problem_with({kGlobal + "attention.sinks=softmax1"}),
      kGlobal +
          "attention.sinks = \"softmax1\": allowed none | off_by_one | learnable; Softmax type "
          "not supported");
}

TEST(CheckModel, NormsAndMlp) {
  EXPECT_EQ(problem_with({"model.norms={bias: true}"}),
            "model.norms.bias = true: allowed false unless kind is layer and it has a weight");
  EXPECT_EQ(problem_with({kGlobal + "norms={kind: layer, weight: zero_centered}"}),
            kGlobal + "norms.weight = zero_centered: allowed plain | fp32 | none for kind layer");
  EXPECT_EQ(problem_with({kGlobal + "mlp={intermediate_size: 8, gated: false, limit: 7}"}),
            kGlobal + "mlp.limit = 7: allowed only with gated true");
}

TEST(CheckModel, StackNames) {
  EXPECT_EQ(
      problem_with({"model.pattern=[global, local, locl]"}),
      "model.pattern[2] = \"locl\": allowed a block name (global | local); did you mean local?");
  EXPECT_EQ(problem_with({"model.pattern=[global]"}),
            "model.blocks.local: defined but not used by pattern; used are global");
  EXPECT_EQ(problem_with({"model.num_layers=null"}),
            "model.num_layers: missing; allowed an integer >= 1 (or a list `layers`)");
  EXPECT_EQ(problem_with({"model.pattern=[]"}),
            "model.pattern: missing; allowed a list of block names (or a list `layers`)");
  EXPECT_EQ(problem_with({"model.layers=[global, local, local, global]"}),
            "model.pattern: not allowed beside layers");
  EXPECT_EQ(problem_with({"model.layers=[global, local]", "model.pattern=[]"}),
            "model.num_layers = 4: allowed the length of layers (= 2)");
  EXPECT_THAT(
      problem_with({"model.blocks.a%b c={attention: {num_heads: 4}, mlp: {intermediate_size: 3}}",
                    "model.pattern=[global, local, 'a%b c']"}),
      HasSubstr("block name not allowed"));
}

TEST(CheckModel, BasePerLayer) {
  EXPECT_EQ(
      problem_with({"model.rotary_base_per_layer=[1e4, 1e5, 1e4]"}),
      "model.rotary_base_per_layer: rotary_base_per_layer length (3) must equal num_layers (4)");
  EXPECT_EQ(
      problem_with({"model.rotary_base_per_layer=[]"}),
      "model.rotary_base_per_layer: rotary_base_per_layer length (0) must equal num_layers (4)");
  EXPECT_EQ(problem_with({"model.rotary_base_per_layer=[1e4, 1e5, 0, 1]"}),
            "model.rotary_base_per_layer[2] = 0: allowed a number > 0");
  EXPECT_EQ(
      problem_with({"model.rotary_base_per_layer=[1e4, 1e5, null, 1]"}),
      "model.rotary_base_per_layer[2] = null: allowed a number > 0: layer 2 (block global) has "
      "rotary positions");
  const auto lines = problems_of({"model.rotary_base_per_layer=[1e4, 1e5, 1e4, 1e4]",
                                  "model.blocks.local.attention.rope=none"});
  ASSERT_EQ(lines.size(), 2u);
  EXPECT_THAT(
      lines[0],
      HasSubstr("model.rotary_base_per_layer[1]: layer 1 (block local) has position type \"none\", "
                "which has no base; rotary_base_per_layer is only supported with \"rope\", "
                "\"yarn\" and \"mrope\""));
  EXPECT_THAT(problems_of({"model.rotary_base_per_layer=[1e4, null, 1e4, null]",
                           "model.blocks.local.attention.rope=none"}),
              ElementsAre());
}

TEST(CheckModel, OtherFrontDoors) {
  EXPECT_THAT(problems_of({"model={hf: folder}"}), ElementsAre());
  EXPECT_THAT(problems_of({"model={megatron: {num_layers: 2}}"}), ElementsAre());
  EXPECT_EQ(problem_with({"model={hf: folder, hidden_size: 3}"}),
            "model.hidden_size: not allowed beside hf");
  EXPECT_EQ(problem_with({"model={hf: folder, megatron: {}}"}),
            "model.megatron: not allowed beside hf");
  EXPECT_EQ(problem_with({"model={megatron: 3}"}), "model.megatron = 3: allowed a mapping");
}

TEST(CheckModel, CodeBuiltConfigsAreHeldToTheRangesToo) {
  ModelConfig model;
  model.hidden_size = -1;
  model.num_layers = 1;
  BlockConfig block;
  block.attention.emplace();
  block.attention->num_heads = 2;
  block.attention->head_dim = 4;
  block.mlp.emplace().intermediate_size = 8;
  model.blocks["only"] = block;
  Problems problems;
  check_model(model, "model", problems);
  EXPECT_THAT(problems.lines(),
              ElementsAre("model.hidden_size = -1: allowed an integer in [1, 16777216]"));
  model.hidden_size = 8;
  Problems none;
  check_model(model, "model", none);
  EXPECT_THAT(none.lines(), ElementsAre());
  EXPECT_THAT(layer_blocks(model), ElementsAre("only"));
}

TEST(RotatedWidth, TruncatesAsTheReferenceDoes) {
  RopeConfig rope;
  rope.fraction = 0.5;
  EXPECT_EQ(rotated_width(rope, 65), 32);
}

}  // namespace
}  // namespace headway::config
