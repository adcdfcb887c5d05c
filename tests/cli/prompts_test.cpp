// `generate --prompts` from outside: many prompts at once print what each prints alone, in the
// order of the file, and a bad line is named.
#include <cstdio>
#include <filesystem>
#include <sstream>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "tests/support/temp_folder.h"

namespace headway {
namespace {
namespace fs = std::filesystem;
using nlohmann::json;
using testing::HasSubstr;
using testing_support::read_bytes;
using testing_support::TempFolder;

constexpr const char* kRun = R"(
model:
  hidden_size: 16
  tokenizer: bytes
  blocks:
    global: {attention: {num_heads: 2, num_kv_heads: 1, head_dim: 8}, mlp: {intermediate_size: 24}}
    local:
      attention: {num_heads: 4, num_kv_heads: 2, head_dim: 4, window: 5}
      mlp: {intermediate_size: 24}
  pattern: [global, local]
  num_layers: 4
data: {train: [TEXT], sequence_length: 16, validation_fraction: 0.1}
train: {steps: 2, batch_tokens: 32, evaluate_every: 0}
output: OUT
)";

class Prompts : public testing::Test {
 protected:
  struct Outcome {
    int code = -1;
    std::string out;
    std::string err;
    std::vector<json> lines() const {
      std::vector<json> parsed;
      std::istringstream stream(out);
      for (std::string line; std::getline(stream, line);) parsed.push_back(json::parse(line));
      return parsed;
    }
  };

  void SetUp() override {
    std::string yaml = kRun;
    yaml.replace(yaml.find("TEXT"), 4,
                 folder_.write("text.txt", std::string(2000, 'a') + "\nsome more text\n"));
    yaml.replace(yaml.find("OUT"), 3, model());
    ASSERT_EQ(run("train " + folder_.write("run.yaml", yaml)).code, 0);
  }

  std::string model() const { return (folder_ / "out").string(); }

  Outcome run(const std::string& arguments) const {
    const fs::path err = folder_ / "stderr.txt";
    const std::string command =
        std::string(HEADWAY_PROGRAM) + " " + arguments + " 2>" + err.string() + " </dev/null";
    Outcome outcome;
    std::FILE* pipe = popen(command.c_str(), "r");
    char buffer[4096];
    for (size_t got; (got = std::fread(buffer, 1, sizeof buffer, pipe)) > 0;)
      outcome.out.append(buffer, got);
    const int status = pclose(pipe);
    outcome.code = WIFEXITED(status) ? WEXITSTATUS(status) : 128;
    outcome.err = read_bytes(err);
    return outcome;
  }

  Outcome generate(const std::string& arguments) const {
    return run("generate --model " + model() + " --dtype float64 " + arguments);
  }
  Outcome generate_lines(const std::string& text, const std::string& arguments = "") const {
    return generate("--max-new-tokens 9 --prompts " + folder_.write("prompts.jsonl", text) + " " +
                    arguments);
  }

  TempFolder folder_;
};

TEST_F(Prompts, ManyAtOnceGiveWhatEachGivesAlone) {
  const std::string text =
      "{\"prompt\": \"some text\"}\n"
      "\n"
      "{\"token_ids\": [97, 98], \"max_new_tokens\": 3}\n"
      "{\"prompt\": \"some text that is longer\", \"temperature\": 0.9, \"seed\": 5, "
      "\"request\": 0, \"top_k\": 20, \"top_p\": 0.9, \"min_p\": 0.01, "
      "\"repetition_penalty\": 1.1}\n"
      "{\"prompt\": \"zzz\", \"max_new_tokens\": 0}\n"
      "{\"prompt\": \"some text\", \"stop\": \"e\"}\n";
  const std::vector<std::string> alone{
      "--prompt 'some text' --max-new-tokens 9", "--token-ids 97,98 --max-new-tokens 3",
      "--prompt 'some text that is longer' --max-new-tokens 9 --temperature 0.9 --seed 5 "
      "--top-k 20 --top-p 0.9 --min-p 0.01 --repetition-penalty 1.1",
      "--prompt zzz --max-new-tokens 0", "--prompt 'some text' --max-new-tokens 9 --stop e"};
  for (const std::string options :
       {"", "--block-size 4 --max-batch-requests 2 --max-batch-tokens 7",
        "--block-size 1 --no-prefix-caching --cache-memory 1"}) {
    const Outcome together = generate_lines(text, options);
    ASSERT_EQ(together.code, 0) << together.err;
    const std::vector<json> lines = together.lines();
    ASSERT_EQ(lines.size(), alone.size());
    for (size_t n = 0; n < alone.size(); ++n) {
      const json want = json::parse(generate(alone[n] + " --json").out);
      for (const char* key : {"token_ids", "text", "finish_reason"}) {
        EXPECT_EQ(lines[n][key], want[key]) << "prompt " << n << " " << key;
      }
      EXPECT_EQ(lines[n]["timing"]["new_tokens"], want["timing"]["new_tokens"]);
    }
    EXPECT_THAT(together.err, HasSubstr("5 prompts"));
  }
}

TEST_F(Prompts, ABadLineIsNamedAndNothingRuns) {
  const std::string good = "{\"prompt\": \"a\"}\n";
  const auto expect = [&](const std::string& line, const std::string& message) {
    const Outcome outcome = generate_lines(good + line + "\n");
    EXPECT_EQ(outcome.code, 2) << line;
    EXPECT_THAT(outcome.err, HasSubstr("prompts.jsonl:2")) << line;
    EXPECT_THAT(outcome.err, HasSubstr(message)) << line;
    EXPECT_EQ(outcome.out, "") << line;
  };
  expect("{\"prompt\": ", "prompts.jsonl:2");
  expect("[1]", "allowed {\"prompt\": …} or {\"token_ids\": […]}");
  expect("{\"seed\": 1}", "allowed {\"prompt\": …} or {\"token_ids\": […]}");
  expect("{\"prompt\": \"a\", \"token_ids\": [1]}", "allowed {\"prompt\": …}");
  expect("{\"prompt\": 3}", "prompt = 3, allowed text");
  expect("{\"token_ids\": 3}", "token_ids = 3, allowed a list of integers");
  expect("{\"token_ids\": [1.5]}", "token_ids = 1.5, allowed integers");
  expect("{\"token_ids\": [1, 256]}", "token id = 256, allowed 0 to 255");
  expect("{\"token_ids\": []}", "prompt = 0 tokens");
  expect("{\"prompt\": \"a\", \"max_tokens\": 3}", "max_tokens = 3, allowed prompt, token_ids");
  expect("{\"prompt\": \"a\", \"max_new_tokens\": -1}", "max_new_tokens = -1, allowed a whole");
  expect("{\"prompt\": \"a\", \"max_new_tokens\": 18446744073709551615}", "allowed a 63-bit");
  expect("{\"prompt\": \"a\", \"temperature\": \"hot\"}", "allowed a number");
  expect("{\"prompt\": \"a\", \"top_p\": 1.5}", "--top-p = 1.5");
  expect("{\"prompt\": \"a\", \"seed\": -4}", "seed = -4, allowed a whole number");
  expect("{\"prompt\": \"a\", \"stop\": [3]}", "allowed text or a list of texts");
}

TEST_F(Prompts, LimitsAreNamed) {
  const std::string line = "{\"prompt\": \"abc\"}\n";
  const auto expect = [&](const std::string& text, const std::string& options,
                          const std::string& message) {
    const Outcome outcome = generate_lines(text, options);
    EXPECT_EQ(outcome.code, 2) << options;
    EXPECT_THAT(outcome.err, HasSubstr(message)) << options;
    EXPECT_EQ(outcome.out, "") << options;
  };
  expect("\n \n", "", "prompts = none, allowed at least one line");
  expect(line, "--block-size 0", "--block-size = 0");
  expect(line, "--max-batch-tokens 3", "--max-batch-tokens = 3, allowed 64 or more");
  expect(line, "--cache-memory 0", "--cache-memory");
  expect("{\"prompt\": \"abc\", \"max_new_tokens\": 100000}\n", "--cache-memory 1",
         "--cache-memory = 1 MiB, allowed for the longest request at least");
  EXPECT_EQ(generate("--max-new-tokens 1 --prompts /nowhere.jsonl").code, 3);
}

}  // namespace
}  // namespace headway
