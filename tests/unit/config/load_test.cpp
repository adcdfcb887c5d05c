// Whole run files: defaults, overrides, sources, rules over data and training.
#include "headway/config/load.h"

#include <filesystem>
#include <fstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "headway/base/error.h"
#include "headway/base/fields.h"

namespace headway::config {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr const char* kRun = R"(
model:
  hidden_size: 192
  tokenizer: bytes
  tie_embeddings: true
  blocks:
    global:
      attention:
        num_heads: 4
        num_kv_heads: 2
        head_dim: 32
        gate: head_wise
        rope: {base: 5e6, fraction: 0.5}
      mlp: {intermediate_size: 512}
    local:
      attention:
        {num_heads: 6, num_kv_heads: 2, head_dim: 32, gate: head_wise, window: 128,
         rope: {base: 1e4}}
      mlp: {intermediate_size: 512}
  pattern: [global, local, local, local]
  num_layers: 8
data:  {train: [corpus], validation_fraction: 0.02, sequence_length: 256}
train:
  {steps: 300, batch_tokens: 4096, seed: 1, optimizer: {lr: 3e-3, weight_decay: 0.1},
   schedule: {kind: cosine, warmup_steps: 20}, checkpoint_every: 100, evaluate_every: 50}
output: runs/demo
)";

std::vector<std::string> problems_of(const std::vector<std::string>& overrides,
                                     const LoadOptions& options = {},
                                     const std::string& text = kRun) {
  try {
    parse_run(text, "run.yaml", overrides, options);
  } catch (const ConfigError& error) {
    return error.problems();
  }
  return {};
}

TEST(LoadRun, ReadsTheRunFileOfTheDesign) {
  const RunConfig run = parse_run(kRun, "run.yaml", {});
  EXPECT_EQ(run.model.hidden_size, 192);
  EXPECT_TRUE(run.model.tie_embeddings);
  const AttentionConfig& global = *run.model.blocks.at("global").attention;
  EXPECT_EQ(global.gate.kind, GateKind::kHeadWise);
  EXPECT_EQ(global.rope->base, 5e6);
  EXPECT_EQ(global.rope->fraction, 0.5);
  EXPECT_EQ(global.window, std::nullopt);
  EXPECT_EQ(run.model.blocks.at("local").attention->window, 128);
  EXPECT_THAT(run.data.train, ElementsAre("corpus"));
  EXPECT_EQ(run.train.optimizer.lr, 3e-3);
  EXPECT_EQ(run.output, "runs/demo");
}

TEST(LoadRun, DefaultsAreTheDocumentedOnes) {
  const RunConfig run;
  EXPECT_EQ(run.train.optimizer.betas, (std::array<double, 2>{0.9, 0.95}));
  EXPECT_EQ(run.train.optimizer.eps, 1e-8);
  EXPECT_EQ(run.train.optimizer.clip, 1.0);
  EXPECT_EQ(run.train.schedule.final_fraction, 0.1);
  EXPECT_EQ(run.train.keep_checkpoints, 3);
  EXPECT_EQ(run.model.init.std, 0.02);
  EXPECT_TRUE(run.model.init.scale_residual);
  EXPECT_EQ(run.model.tokenizer, "bytes");
  EXPECT_FALSE(run.data.cross_document);
  EXPECT_EQ(run.train.dtype, Dtype::kAuto);
}

TEST(LoadRun, ResolvedConfigReadsBackEqual) {
  const RunConfig run =
      parse_run(kRun, "run.yaml", {"train.optimizer.clip=none", "model.final_softcap=30"});
  EXPECT_EQ(parse_run(to_yaml(run), "config.yaml", {}), run) << to_yaml(run);
  EXPECT_EQ(parse_run(to_json(run).dump(), "config.json", {}), run);
}

TEST(LoadRun, OverridesReachEverything) {
  const RunConfig run = parse_run(
      kRun, "run.yaml",
      {"train.steps=10", "model.pattern.1=global", "model.pattern[2]=global", "data.train=other",
       "model.blocks.local.attention.rope={base: 1e5, kind: linear, factor: 2}",
       "train.device=cuda", "train.optimizer.betas=[0.5, 0.75]", "train.dtype=float64",
       "model.blocks.global.attention.rope=none", "train.schedule=constant",
       "train.schedule={kind: wsd}", "output=a=b"});
  EXPECT_EQ(run.train.steps, 10);
  EXPECT_THAT(run.model.pattern, ElementsAre("global", "global", "global", "local"));
  EXPECT_THAT(run.data.train, ElementsAre("other"));
  EXPECT_EQ(run.model.blocks.at("local").attention->rope->kind, RopeKind::kLinear);
  EXPECT_EQ(run.model.blocks.at("global").attention->rope, std::nullopt);
  EXPECT_EQ(run.train.device, Device::kCuda);
  EXPECT_EQ(run.train.optimizer.betas[1], 0.75);
  EXPECT_EQ(run.train.schedule.kind, ScheduleKind::kWsd);
  EXPECT_EQ(run.output, "a=b");
}

TEST(LoadRun, EachLineNamesItsSource) {
  EXPECT_THAT(
      problems_of({"model.blocks.local.attention.num_kv_heads=5", "train.stepz=3"}),
      ElementsAre("model.blocks.local.attention.num_kv_heads = 5: allowed a divisor of "
                  "num_heads (= 6) [override model.blocks.local.attention.num_kv_heads=5]",
                  "train.stepz: unknown key; did you mean steps? [override train.stepz=3]"));
  EXPECT_THAT(
      problems_of({}, {}, "model: {hidden_size: 0}\noutput: x\ndata: {train: [a]}"),
      ElementsAre(
          "model.hidden_size = 0: allowed an integer in [1, 16777216] [run.yaml]",
          "model.blocks: missing; allowed a mapping of names, each to a mapping [run.yaml]"));
}

TEST(LoadRun, BadOverrides) {
  EXPECT_THAT(problems_of({"nonsense"}),
              ElementsAre("[override nonsense] text = no key and value, allowed a.b=value"));
  EXPECT_THAT(problems_of({std::string("\0x", 2)}),
              ElementsAre("[override \\x00x] text = no key and value, allowed a.b=value"));
  EXPECT_THAT(problems_of({"=3"}), ElementsAre(HasSubstr("allowed a.b=value")));
  EXPECT_THAT(problems_of({"a..b=3"}), ElementsAre(HasSubstr("allowed names joined by dots")));
  EXPECT_THAT(
      problems_of({"model.pattern.9=x"}),
      ElementsAre("[override model.pattern.9=x] model.pattern has no entry 9, allowed 0 to 3"));
  EXPECT_THAT(
      problems_of({"model.blocks.local.attention.gate.init=zero"}),
      ElementsAre(HasSubstr("model.blocks.local.attention.gate = \"head_wise\", which has no "
                            "entry init; replace it whole")));
  EXPECT_THAT(problems_of({"train.steps=[1"}),
              ElementsAre(HasSubstr("[override train.steps=[1] line 1: ")));
  EXPECT_THAT(
      problems_of({"train.steps=\"5\""}),
      ElementsAre(HasSubstr("train.steps = \"5\": allowed an integer >= 1; text in quotes")));
}

TEST(LoadRun, MissingKeysHaveTheirPath) {
  const auto lines =
      problems_of({}, {}, "model: {hidden_size: 8, num_layers: 1, blocks: {a: {attention: {}}}}");
  EXPECT_THAT(lines,
              Contains("model.blocks.a.attention.num_heads: missing; allowed an integer in [1, "
                       "65536] [run.yaml]"));
  EXPECT_THAT(lines, Contains("model.blocks.a.mlp: missing; allowed a mapping, here or as "
                              "moe [run.yaml]"));
  EXPECT_THAT(lines,
              Contains("data.train: missing; allowed a list of files or folders [run.yaml]"));
  EXPECT_THAT(lines, Contains("output: missing; allowed a folder [run.yaml]"));
  EXPECT_EQ(lines.size(), 4u);
  EXPECT_THAT(problems_of({}, {}, ""), Contains("model: missing; allowed a mapping [run.yaml]"));
  EXPECT_THAT(problems_of({}, {}, "[1, 2]"),
              ElementsAre("document = a list of 2 values: allowed a mapping [run.yaml]"));
}

TEST(LoadRun, LookingAtAModelNeedsNoData) {
  LoadOptions look;
  look.needs_training = false;
  const std::string text =
      "model: {hidden_size: 8, num_layers: 1, blocks: {a: {attention: {num_heads: 2}, mlp: "
      "{intermediate_size: 4}}}}";
  EXPECT_THAT(problems_of({}, look, text), ElementsAre());
  EXPECT_EQ(problems_of({}, {}, text).size(), 2u);
}

TEST(LoadRun, RulesOverTraining) {
  EXPECT_THAT(problems_of({"train.batch_tokens=1000"}),
              ElementsAre(HasSubstr("train.batch_tokens = 1000: allowed a multiple of "
                                    "data.sequence_length (= 256)")));
  EXPECT_THAT(problems_of({"train.micro_batch_tokens=1536"}),
              ElementsAre(HasSubstr(
                  "train.micro_batch_tokens = 1536: allowed a divisor of batch_tokens (= 4096)")));
  EXPECT_THAT(problems_of({"train.micro_batch_tokens=128"}),
              ElementsAre(HasSubstr(
                  "train.micro_batch_tokens = 128: allowed a multiple of data.sequence_length")));
  EXPECT_THAT(problems_of({"data.sequence_length=16384", "train.batch_tokens=16384"}),
              ElementsAre(HasSubstr(
                  "data.sequence_length = 16384: allowed at most model.max_positions (= 8192)")));
  EXPECT_THAT(problems_of({"train.schedule.warmup_steps=301"}),
              ElementsAre(HasSubstr(
                  "train.schedule.warmup_steps = 301: allowed at most train.steps (= 300)")));
  EXPECT_THAT(
      problems_of({"train.schedule.decay_steps=281"}),
      ElementsAre(HasSubstr("decay_steps = 281: allowed at most steps - warmup_steps (= 280)")));
  EXPECT_THAT(problems_of({"train.schedule={kind: constant, decay_steps: 3}"}),
              ElementsAre(HasSubstr("decay_steps = 3: allowed none for kind constant")));
  EXPECT_THAT(problems_of({"data.train=['']"}),
              ElementsAre(HasSubstr("data.train[0] = \"\": allowed a file or folder")));
  EXPECT_THAT(problems_of({"train.dtype=float16"}),
              ElementsAre(HasSubstr(
                  "train.dtype = \"float16\": allowed auto | float32 | bfloat16 | float64")));
  EXPECT_THAT(problems_of({"train.optimizer.betas=[0.9, 1.0]"}),
              ElementsAre(HasSubstr("train.optimizer.betas[1] = 1: allowed a number in [0, 1)")));
}

TEST(LoadRun, RecomputeOfLayersAndOfModules) {
  const auto load_overridden = [](const std::vector<std::string>& overrides) {
    return parse_run(kRun, "run.yaml", overrides);
  };
  const RunConfig plain = load_overridden({});
  EXPECT_EQ(plain.train.recompute.granularity, RecomputeGranularity::kNone);
  EXPECT_FALSE(plain.train.delay_wgrad);
  const RecomputeConfig full =
      load_overridden({"train.recompute={granularity: full, method: uniform, num_layers: 2}"})
          .train.recompute;
  EXPECT_EQ(full.method, RecomputeMethod::kUniform);
  EXPECT_EQ(full.num_layers, 2);
  const RunConfig chosen = load_overridden(
      {"train.recompute={granularity: selective, modules: [core_attn, layernorm, mlp]}",
       "train.delay_wgrad=true"});
  EXPECT_EQ(chosen.train.recompute.modules.size(), 3u);
  EXPECT_TRUE(chosen.train.delay_wgrad);
  EXPECT_EQ(load_overridden({"train.recompute=selective"}).train.recompute.modules,
            std::vector{RecomputeModule::kCoreAttention});

  EXPECT_THAT(problems_of({"train.recompute=full"}),
              ElementsAre(HasSubstr("train.recompute.method: missing; granularity full needs "
                                    "block | uniform"),
                          HasSubstr("train.recompute.num_layers: missing; granularity full needs "
                                    "an integer >= 1")));
  EXPECT_THAT(problems_of({"train.recompute={granularity: selective, num_layers: 2}"}),
              ElementsAre(HasSubstr("num_layers: not allowed with granularity selective")));
  EXPECT_THAT(problems_of({"train.recompute={method: block}"}),
              ElementsAre(HasSubstr("method: not allowed with granularity none")));
  EXPECT_THAT(problems_of({"train.recompute={modules: [mlp]}"}),
              ElementsAre(HasSubstr("modules: not allowed with granularity none")));
  EXPECT_THAT(problems_of({"train.recompute=some"}),
              ElementsAre(HasSubstr("allowed none | selective | full")));
  EXPECT_THAT(problems_of({"train.recompute={granularity: selective, modules: [everything]}"}),
              ElementsAre(HasSubstr("allowed core_attn | layernorm | mlp")));
  EXPECT_THAT(problems_of({"train.recompute={granularity: full, method: block, num_layers: 0}"}),
              ElementsAre(HasSubstr("num_layers = 0: allowed an integer >= 1")));
}

TEST(LoadRun, HuggingFaceFolderBringsItsTokenizer) {
  LoadOptions look;
  look.needs_training = false;
  const RunConfig run = parse_run("model: {hf: some/folder}", "r", {}, look);
  EXPECT_EQ(parse_run(to_yaml(run), "config.yaml", {}, look), run);
  EXPECT_EQ(parse_run("model: {hf: some/folder}", "r", {}, look).model.tokenizer, "some/folder");
  EXPECT_EQ(parse_run("model: {hf: some/folder, tokenizer: other}", "r", {}, look).model.tokenizer,
            "other");
}

TEST(LoadRun, Files) {
  const auto folder = std::filesystem::path(::testing::TempDir()) / "headway_load_run";
  std::filesystem::create_directories(folder);
  EXPECT_THROW(load_run((folder / "none.yaml").string(), {}), CheckpointError);
  const std::string path = (folder / "run.yaml").string();
  std::ofstream(path) << kRun;
  EXPECT_EQ(load_run(path, {}).train.steps, 300);
  std::ofstream(folder / "bad.json") << "{\"model\": {}, \"model\": {}}";
  try {
    load_run((folder / "bad.json").string(), {});
    FAIL();
  } catch (const ConfigError& error) {
    EXPECT_THAT(error.what(), HasSubstr("key \"model\" = given twice"));
  }
  std::filesystem::remove_all(folder);
}

TEST(LoadRun, EveryFieldIsDocumented) {
  const auto docs = field_docs<RunConfig>();
  EXPECT_GT(docs.size(), 70u);
  for (const FieldDoc& doc : docs) {
    EXPECT_GE(doc.help.size(), 4u) << doc.path;
    EXPECT_FALSE(doc.allowed.empty()) << doc.path;
  }
}

}  // namespace
}  // namespace headway::config
