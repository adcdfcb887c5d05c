// The program's contract from outside: exit codes, messages, JSON on stdout, nothing written when
// refused.
#include <filesystem>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "tests/support/program.h"

namespace headway {
namespace {
namespace fs = std::filesystem;
using nlohmann::json;
using testing::HasSubstr;
using testing_support::Outcome;
using testing_support::TempFolder;

Outcome run(const TempFolder& folder, const std::string& arguments,
            const std::string& environment = "") {
  return testing_support::run_program(folder, arguments, environment);
}

constexpr const char* kRun = R"(
model:
  hidden_size: 16
  blocks:
    global: {attention: {num_heads: 2, num_kv_heads: 1, head_dim: 8}, mlp: {intermediate_size: 24}}
    local:
      attention: {num_heads: 4, num_kv_heads: 2, head_dim: 4, window: 5}
      mlp: {intermediate_size: 24}
  pattern: [global, local]
  num_layers: 2
data: {train: [TEXT], sequence_length: 16, validation_fraction: 0.1}
train: {steps: 2, batch_tokens: 32, checkpoint_every: 1, evaluate_every: 1}
output: OUT
)";

/// A run file over a text of its own, with its output below the folder.
std::string run_file(const TempFolder& folder,
                     const std::string& text = std::string(2000, 'a') + "\nsome more text\n") {
  const std::string data = folder.write("text.txt", text);
  std::string yaml = kRun;
  yaml.replace(yaml.find("TEXT"), 4, data);
  yaml.replace(yaml.find("OUT"), 3, (folder / "out").string());
  return folder.write("run.yaml", yaml);
}

void expect_refused(const TempFolder& folder, const std::string& arguments, int code,
                    const std::string& message) {
  const Outcome outcome = run(folder, arguments);
  EXPECT_EQ(outcome.code, code) << arguments << "\n" << outcome.err;
  EXPECT_THAT(outcome.err, HasSubstr(message)) << arguments;
  EXPECT_EQ(outcome.out, "") << arguments;
  EXPECT_FALSE(fs::exists(folder / "out")) << arguments << ": something was written";
}

TEST(Cli, UsageErrorsAreTwo) {
  const TempFolder folder;
  expect_refused(folder, "", 2, "subcommand");
  expect_refused(folder, "nonsense", 2, "nonsense");
  expect_refused(folder, "generate --model x", 2, "");
  expect_refused(folder, "eval --model x", 2, "");
  expect_refused(folder, "bench nothing", 2, "allowed attention");
  EXPECT_EQ(run(folder, "--help").code, 0);
  EXPECT_THAT(run(folder, "--version").out, HasSubstr("headway 0."));
}

TEST(Cli, ConfigProblemsComeAllAtOnce) {
  const TempFolder folder;
  const std::string file = run_file(folder);
  const Outcome outcome =
      run(folder, "train " + file + " model.hiden_size=8 train.steps=-1 data.sequence_length=abc " +
                      "model.blocks.local.attention.num_kv_heads=3");
  EXPECT_EQ(outcome.code, 2);
  EXPECT_THAT(outcome.err, HasSubstr("hidden_size"));
  EXPECT_THAT(outcome.err, HasSubstr("train.steps"));
  EXPECT_THAT(outcome.err, HasSubstr("data.sequence_length"));
  EXPECT_THAT(outcome.err, HasSubstr("model.blocks.local.attention.num_kv_heads = 3"));
  EXPECT_FALSE(fs::exists(folder / "out"));
}

TEST(Cli, BadInputIsRefusedBeforeAnythingIsWritten) {
  const TempFolder folder;
  const std::string file = run_file(folder);
  expect_refused(folder, "train missing.yaml", 3, "missing.yaml");
  expect_refused(folder, "train " + file + " data.train=[/nowhere/at/all]", 3, "/nowhere/at/all");
  expect_refused(folder, "train " + file + " data.sequence_length=4096 train.batch_tokens=4096", 2,
                 "sequence_length");
  expect_refused(folder, "train " + file + " train.batch_tokens=33", 2, "batch_tokens");
  expect_refused(folder, "train " + file + " model.tokenizer=nothing", 2, "tokenizer");
  expect_refused(folder, "train " + file + " model.vocab_size=100", 2, "vocab_size");
  expect_refused(folder, "train " + file + " 'model.rotary_base_per_layer=[1e4, 1e4, 1e4]'", 2,
                 "rotary_base_per_layer length (3) must equal num_layers (2)");
  folder.write("bad.txt", "fine so far \xff\xfe not any more");
  expect_refused(folder, "train " + file + " data.train=[" + (folder / "bad.txt").string() + "]", 3,
                 "bad.txt");
  folder.write("empty.txt", "");
  expect_refused(folder, "train " + file + " data.train=[" + (folder / "empty.txt").string() + "]",
                 3, "empty");
}

TEST(Cli, DeviceThatIsNotThereIsFour) {
  const TempFolder folder;
  if (json::parse(run(folder, "doctor --json").out)["cuda"] == true)
    GTEST_SKIP() << "this machine has CUDA";
  expect_refused(folder, "train " + run_file(folder) + " --device cuda", 4, "cuda");
}

TEST(Cli, NonFiniteLossIsFive) {
  const TempFolder folder;
  const Outcome outcome =
      run(folder, "train " + run_file(folder) +
                      " train.optimizer.lr=1e30 train.optimizer.clip=none train.steps=50");
  EXPECT_EQ(outcome.code, 5) << outcome.err;
  EXPECT_THAT(outcome.err, HasSubstr("not finite"));
}

TEST(Cli, RealtimeChecksNameTheLayerOrSayWhatTheyCost) {
  const TempFolder folder;
  const std::string file = run_file(folder);
  expect_refused(folder, "train " + file + " --checks=everything", 2, "checks");
  // With weights of this size the first scores overflow, the norms before them do not.
  const Outcome wrong =
      run(folder, "train " + file + " model.init.std=4e18 train.dtype=float32 --checks=realtime");
  EXPECT_EQ(wrong.code, 5) << wrong.err;
  EXPECT_THAT(wrong.err, HasSubstr("[checks] layers.0 (block global), "));
  EXPECT_THAT(wrong.err, HasSubstr("not finite, the first "));
  fs::remove_all(folder / "out");
  const Outcome right = run(folder, "train " + file + " --checks=realtime");
  EXPECT_EQ(right.code, 0) << right.err;
  EXPECT_THAT(right.err, HasSubstr("checks = realtime: "));
  EXPECT_THAT(right.err, HasSubstr("looks, nothing wrong"));
}

TEST(Cli, ForcedKernelsAreCheckedByName) {
  const TempFolder folder;
  const std::string file = run_file(folder);
  EXPECT_EQ(run(folder, "train " + file, "HEADWAY_KERNEL=attention").code, 2);
  const Outcome unknown = run(folder, "train " + file, "HEADWAY_KERNEL=attention:fastest");
  EXPECT_EQ(unknown.code, 2);
  EXPECT_THAT(unknown.err, HasSubstr("reference"));
  EXPECT_FALSE(fs::exists(folder / "out"));
  EXPECT_EQ(run(folder, "doctor", "HEADWAY_KERNEL=attention:cpu@PDP11").code, 4);
  EXPECT_EQ(run(folder, "doctor", "HEADWAY_KERNEL=nothing:cpu").code, 2);
  EXPECT_EQ(run(folder, "doctor", "HEADWAY_THREADS=none").code, 2);
}

TEST(Cli, TrainInspectGenerateEvalConvertTogether) {
  const TempFolder folder;
  const std::string file = run_file(folder);
  const std::string out = (folder / "out").string();
  ASSERT_EQ(run(folder, "train " + file).code, 0);
  EXPECT_EQ(run(folder, "train " + file).code, 2) << "a non-empty output needs --resume";
  EXPECT_EQ(run(folder, "train " + file + " --resume").code, 0)
      << "a finished run resumes to nothing";

  const json spec = json::parse(run(folder, "inspect " + out + " --json").out);
  EXPECT_EQ(spec["layers"].size(), 2u);
  EXPECT_EQ(json::parse(run(folder, "validate " + file + " --json").out)["valid"], true);

  const std::string ask = "generate --model " + out + " --prompt aaaa --max-new-tokens 8 --json";
  const json first = json::parse(run(folder, ask).out);
  EXPECT_EQ(first["token_ids"].size(), 12u);
  EXPECT_TRUE(first["text"].is_string());
  EXPECT_EQ(json::parse(run(folder, ask).out)["token_ids"], first["token_ids"]);
  const json by_ids = json::parse(
      run(folder, "generate --model " + out + " --token-ids 97,97,97,97 --max-new-tokens 8 --json")
          .out);
  EXPECT_EQ(by_ids["token_ids"], first["token_ids"]);

  const json score =
      json::parse(run(folder, "eval --model " + out + " --text " + (folder / "text.txt").string() +
                                  " --sequence-length 64 --json")
                      .out);
  EXPECT_GT(score["loss"].get<double>(), 0.0);

  const std::string converted = (folder / "converted").string();
  const Outcome refused = run(folder, "convert " + out + " " + converted + " --to llama");
  EXPECT_EQ(refused.code, 4);
  EXPECT_THAT(refused.err, HasSubstr("layer"));
  EXPECT_FALSE(fs::exists(converted));
  EXPECT_EQ(run(folder, "convert " + out + " " + converted + " --to headway --verify").code, 0);
  EXPECT_EQ(run(folder, "convert " + out + " " + converted + " --to headway").code, 3)
      << "the target exists";
  EXPECT_EQ(json::parse(run(folder, "generate --model " + converted +
                                        " --token-ids 97,97,97,97 --max-new-tokens 8 --json")
                            .out)["token_ids"],
            first["token_ids"]);
}

TEST(Cli, DamagedCheckpointsAreThree) {
  const TempFolder folder;
  const std::string out = (folder / "out").string();
  ASSERT_EQ(run(folder, "train " + run_file(folder)).code, 0);
  const fs::path weights = folder / "out" / "checkpoints" / "step-2" / "model.safetensors";
  fs::resize_file(weights, fs::file_size(weights) / 2);
  const std::string ask = "generate --max-new-tokens 1 --prompt a --model ";
  const Outcome truncated = run(folder, ask + (folder / "out/checkpoints/step-2").string());
  EXPECT_EQ(truncated.code, 3) << truncated.err;
  EXPECT_EQ(run(folder, ask + out).code, 0) << "the run folder still has the checkpoint before";
  EXPECT_EQ(run(folder, ask + (folder / "nowhere").string()).code, 3);
  EXPECT_EQ(run(folder, ask + folder.path().string()).code, 3);
}

TEST(Cli, TokenizeBothWays) {
  const TempFolder folder;
  EXPECT_EQ(run(folder, "tokenize --tokenizer bytes --text 'ab c'").out, "97 98 32 99\n");
  EXPECT_EQ(run(folder, "tokenize --tokenizer bytes --decode --text '97 98,99'").out, "abc\n");
  EXPECT_EQ(run(folder, "tokenize --tokenizer bytes --decode --text 'x'").code, 2);
  EXPECT_EQ(run(folder, "tokenize --tokenizer /nowhere --text x").code, 3);
}

}  // namespace
}  // namespace headway
