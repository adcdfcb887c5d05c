// Every line of the chat goldens: text, generation spans, or the kind of error transformers raises.
// Not for: limits (tests/fuzz/text) or single features beyond the goldens (tests/unit/text).
#include "headway/text/chat_template.h"

#include <filesystem>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "headway/base/file_util.h"
#include "headway/base/json.h"
#include "headway/base/text_util.h"

namespace headway::text {
namespace {

namespace fs = std::filesystem;
using jinja::Dict;
using jinja::Value;

const fs::path kFolder = fs::path(HEADWAY_TESTS_DIR) / "golden" / "chat";

ChatRequest request_of(const Value& line) {
  ChatRequest request;
  const auto& fields = line.object<Dict>();
  request.messages = *fields.get("messages");
  request.tools = *fields.get("tools");
  for (const auto& [name, value] : fields.get("kwargs")->object<Dict>().items) {
    request.variables.emplace_back(name.text(), value);
  }
  if (const Value* now = fields.get("now")) request.now = parse_clock(now->text());
  return request;
}

struct Outcome {
  std::string text;
  std::vector<jinja::Span> spans;
  std::string error_kind;
};

Outcome render(const std::string& source, const Value& line) {
  try {
    const RenderedChat chat = ChatTemplate(source).render(request_of(line));
    return {chat.text, chat.generation_spans, ""};
  } catch (const jinja::TemplateError& error) {
    return {error.what(), {}, std::string(jinja::error_kind_name(error.kind()))};
  }
}

void check_line(const std::string& source, const Value& line) {
  const auto& fields = line.object<Dict>();
  const Outcome outcome = render(source, line);
  if (const Value* kind = fields.get("error_kind")) {
    EXPECT_EQ(outcome.error_kind, kind->text()) << outcome.text;
    if (kind->text() == "raise_exception") {
      EXPECT_EQ(outcome.text, fields.get("error")->text());
    }
    return;
  }
  EXPECT_EQ(outcome.error_kind, "");
  EXPECT_EQ(outcome.text, fields.get("rendered")->text());
  if (const Value* spans = fields.get("generation_spans")) {
    const jinja::Values& wanted = spans->object<jinja::Sequence>().items;
    ASSERT_EQ(outcome.spans.size(), wanted.size());
    for (std::size_t i = 0; i < wanted.size(); ++i) {
      const jinja::Values& pair = wanted[i].object<jinja::Sequence>().items;
      EXPECT_EQ(outcome.spans[i].begin, *pair[0].small_int());
      EXPECT_EQ(outcome.spans[i].end, *pair[1].small_int());
    }
  }
}

class ChatGolden : public testing::TestWithParam<const char*> {};

TEST_P(ChatGolden, EveryLine) {
  const fs::path folder = kFolder / GetParam();
  std::string source;
  if (fs::exists(folder / "template.jinja")) {
    source = read_file((folder / "template.jinja").string(), 1 << 20);
  }
  int lines = 0;
  for (const std::string& text :
       split(read_file((folder / "cases.jsonl").string(), 1 << 20), '\n')) {
    if (text.empty()) continue;
    SCOPED_TRACE(shorten(text, 300));
    const Value line = jinja::parse_json_value(text, "golden");
    const Value* own = line.object<Dict>().get("template");
    check_line(own != nullptr ? own->text() : source, line);
    ++lines;
  }
  EXPECT_GE(lines, 15);
}

INSTANTIATE_TEST_SUITE_P(All, ChatGolden,
                         testing::Values("control", "deepseek3-like", "filters", "gemma-like",
                                         "generation-mask", "glm-like", "gptoss-like",
                                         "llama31-like", "mistral-like", "qwen3-like", "snippets",
                                         "step-like", "whitespace"),
                         [](const auto& info) {
                           std::string name = info.param;
                           std::erase(name, '-');
                           return name;
                         });

}  // namespace
}  // namespace headway::text
