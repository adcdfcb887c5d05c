// chat, generate --chat, template and tokenize --data from outside, on a tiny byte model.
// Not for: what templates render (tests/golden/text).
#include <cstdio>
#include <filesystem>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>
#include <signal.h>

#include "tests/support/temp_folder.h"

namespace headway {
namespace {
namespace fs = std::filesystem;
using nlohmann::json;
using testing::HasSubstr;
using testing_support::read_bytes;
using testing_support::TempFolder;

struct Outcome {
  int code = -1;
  std::string out;
  std::string err;
};

Outcome run(const TempFolder& folder, const std::string& arguments, const std::string& input = "") {
  const std::string stdin_file = folder.write("stdin.txt", input);
  const fs::path err = folder / "stderr.txt";
  const std::string command =
      std::string(HEADWAY_PROGRAM) + " " + arguments + " 2>" + err.string() + " <" + stdin_file;
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

constexpr const char* kRun = R"(
model:
  hidden_size: 16
  blocks:
    global: {attention: {num_heads: 2, num_kv_heads: 1, head_dim: 8}, mlp: {intermediate_size: 24}}
    local:
      attention: {num_heads: 2, num_kv_heads: 1, head_dim: 8, window: 7}
      mlp: {intermediate_size: 24}
  pattern: [global, local]
  num_layers: 2
data: {train: [TEXT], sequence_length: 16, validation_fraction: 0.1}
train: {steps: 1, batch_tokens: 32, checkpoint_every: 1}
output: OUT
)";

constexpr const char* kTemplate =
    "{% for m in messages %}[{{ m.role }}]{{ m.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}[assistant]{% endif %}";

/// A model of one training step, with a chat template.
class ChatTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string yaml = kRun;
    yaml.replace(yaml.find("TEXT"), 4, folder.write("text.txt", std::string(2000, 'a') + "\n"));
    yaml.replace(yaml.find("OUT"), 3, (folder / "out").string());
    const Outcome trained = run(folder, "train " + folder.write("run.yaml", yaml));
    ASSERT_EQ(trained.code, 0) << trained.err;
    folder.write("out/checkpoints/step-1/chat_template.jinja", kTemplate);
  }

  std::string generate_chat(const json& chat, const std::string& more = "") {
    folder.write("chat.json", chat.dump());
    const Outcome outcome =
        run(folder, "generate --model " + model() + " --dtype float64 --max-new-tokens 12 --json " +
                        "--chat " + (folder / "chat.json").string() + more);
    EXPECT_EQ(outcome.code, 0) << outcome.err;
    return json::parse(outcome.out)["text"];
  }
  std::string model() const { return (folder / "out").string(); }

  TempFolder folder;
};

TEST_F(ChatTest, TurnsAreThoseOfGenerateChat) {
  const std::string chat =
      "chat --temperature 0 --stats --dtype float64 --max-new-tokens 12 --model " + model();
  const Outcome outcome =
      run(folder, chat, "hello\n\n/nonsense\nand then?\n/reset\nhello\n/exit\nx\n");
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  json messages = json::array({{{"role", "user"}, {"content", "hello"}}});
  const std::string first = generate_chat(messages);
  messages.push_back({{"role", "assistant"}, {"content", first}});
  messages.push_back({{"role", "user"}, {"content", "and then?"}});
  const std::string second = generate_chat({{"messages", messages}});
  EXPECT_EQ(outcome.out, first + "\n" + second + "\n" + first + "\n");
  EXPECT_THAT(outcome.err, HasSubstr("unknown command /nonsense, allowed /reset | /exit"));
  // "[user]hello\n[assistant]" and 11 of the 12 new bytes had been read before the second turn.
  EXPECT_THAT(outcome.err, HasSubstr("0 of 23 prompt tokens reused"));
  EXPECT_THAT(outcome.err, testing::ContainsRegex("(34|23) of [0-9]+ prompt tokens reused"));
}

TEST_F(ChatTest, ChatFilesMayChooseTemplateAndVariables) {
  const json chat = {{"messages", {{{"role", "user"}, {"content", "x"}}}},
                     {"kwargs", {{"add_generation_prompt", false}, {"mark", "!"}}}};
  folder.write("other.jinja", "{{ mark }}{{ messages[0].content }}{{ add_generation_prompt }}");
  folder.write("chat.json", chat.dump());
  const Outcome outcome = run(folder, "generate --max-new-tokens 1 --json --model " + model() +
                                          " --chat " + (folder / "chat.json").string() +
                                          " --chat-template " + (folder / "other.jinja").string());
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  const std::vector<int> ids = json::parse(outcome.out)["token_ids"];
  EXPECT_EQ(std::string(ids.begin(), ids.end() - 1), "!xFalse");
}

TEST_F(ChatTest, RefusalsNameTheReason) {
  const auto refused = [&](const std::string& arguments, int code, const std::string& message) {
    const Outcome outcome = run(folder, arguments);
    EXPECT_EQ(outcome.code, code) << arguments << "\n" << outcome.err;
    EXPECT_THAT(outcome.err, HasSubstr(message)) << arguments;
    EXPECT_EQ(outcome.out, "") << arguments;
  };
  const std::string generate = "generate --max-new-tokens 1 --model " + model() + " --chat ";
  refused(generate + (folder / "none.json").string(), 3, "none.json");
  refused(generate + folder.write("bad.json", "{"), 2, "bad.json");
  refused(generate + folder.write("odd.json", R"({"messages": [], "temperature": 1})"), 2,
          "key = 'temperature', allowed messages | tools | kwargs");
  folder.write("out/checkpoints/step-1/chat_template.jinja", "{{ raise_exception('never') }}");
  refused(generate + folder.write("ok.json", "[]"), 2, "never");
  refused(generate + folder.write("ok.json", "[]") + " --chat-template other", 2,
          "--chat-template = 'other', allowed default");
  fs::remove(folder / "out/checkpoints/step-1/chat_template.jinja");
  refused(generate + folder.write("ok.json", "[]"), 3, "chat template = none");
  refused("chat --model " + model(), 3, "chat template = none");
}

TEST(TemplateCommand, AnswersLineByLine) {
  const TempFolder folder;
  const std::string file = folder.write("t.jinja", "{{ messages | length }}{{ name }}");
  const Outcome outcome =
      run(folder, "template " + file + " --jsonl",
          "{\"messages\": [], \"kwargs\": {\"name\": \"é\"}}\n"
          "{\"messages\": [], \"template\": \"{% generation %}ab{% endgeneration %}\"}\n\n"
          "{\"messages\": [], \"template\": \"{{ 1 + 'a' }}\"}\n"
          "{\"messages\": [], \"template\": \"{{ strftime_now('%d') }}\", "
          "\"now\": \"2024-03-09T14:05:06\"}\n");
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_THAT(outcome.out, HasSubstr(R"({"rendered":"0é","generation_spans":[]})"));
  EXPECT_THAT(outcome.out, HasSubstr(R"({"rendered":"ab","generation_spans":[[0,2]]})"));
  EXPECT_THAT(outcome.out, HasSubstr(R"("error_kind":"type")"));
  EXPECT_THAT(outcome.out, HasSubstr(R"("rendered":"09")"));
  EXPECT_EQ(run(folder, "template --jsonl", "{\"messages\": []}\n").code, 2);
  EXPECT_EQ(run(folder, "template --jsonl", "nonsense\n").code, 2);
}

TEST(TokenizeCommand, WritesADatasetThatTrains) {
  const TempFolder folder;
  const std::string lines = folder.write(
      "d.jsonl", "{\"content\": \"" + std::string(1500, 'a') + "\"}\n{\"content\": \"bcd\"}\n");
  const std::string prefix = (folder / "set").string();
  const std::string command =
      "tokenize --tokenizer bytes --text-field content --data " + lines + " --out " + prefix;
  const Outcome outcome = run(folder, command + " --json");
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  const json report = json::parse(outcome.out);
  EXPECT_EQ(report["tokens"], 1503);
  EXPECT_EQ(report["documents"], 2);
  EXPECT_EQ(fs::file_size(prefix + ".bin"), 3006u);
  EXPECT_EQ(run(folder, command).code, 2) << "the files exist";
  std::string yaml = kRun;
  yaml.replace(yaml.find("TEXT"), 4, prefix);
  yaml.replace(yaml.find("OUT"), 3, (folder / "out").string());
  const Outcome trained = run(folder, "train " + folder.write("run.yaml", yaml));
  EXPECT_EQ(trained.code, 0) << trained.err;
}

}  // namespace
}  // namespace headway
