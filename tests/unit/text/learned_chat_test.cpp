// Where the assistant speaks in a written conversation: by generation blocks, by prefixes, and what
// is refused. Not for: Jinja.
#include "headway/text/learned_chat.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "headway/base/error.h"
#include "headway/text/jinja/json_text.h"

#include "tests/support/temp_folder.h"

namespace headway::text {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing_support::message_of;

constexpr const char* kPlain =
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}</>\n{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}";
constexpr const char* kMarked =
    "{% for m in messages %}<{{ m.role }}>{% if m.role == 'assistant' %}{% generation %}"
    "{{ m.content }}</>{% endgeneration %}{% else %}{{ m.content }}</>{% endif %}{% endfor %}";
/// Old turns lose what stands before the bar.
constexpr const char* kForgetful =
    "{% for m in messages %}<{{ m.role }}>{{ m.content if loop.last else "
    "m.content.split('|')[-1] }}</>{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}";

constexpr const char* kTwoTurns =
    R"([{"role": "user", "content": "é?"}, {"role": "assistant", "content": "x|ü!"},
        {"role": "user", "content": "more"}, {"role": "assistant", "content": "y|z"}])";

ChatWriter writer(const std::string& source) {
  ChatFormat format;
  format.templates = {{"default", source}};
  return ChatWriter(std::move(format), "");
}

ChatRequest request(const std::string& json) {
  return parse_chat(jinja::parse_json_value(json, "line"), "line");
}

/// Characters of the spans, as all texts here but one are of single bytes.
std::vector<std::string> learned(const std::string& source, const std::string& json, bool last) {
  const LearnedChat chat = write_learned(writer(source), request(json), last, "f:1");
  std::vector<std::string> parts;
  for (const jinja::Span& span : chat.spans) {
    std::string part;
    int64_t character = -1;
    for (const char c : chat.text) {
      if ((static_cast<unsigned char>(c) & 0xC0) != 0x80) ++character;
      if (character >= span.begin && character < span.end) part += c;
    }
    parts.push_back(part);
  }
  return parts;
}

TEST(LearnedChat, PrefixesShowWhatATurnAdds) {
  EXPECT_THAT(learned(kPlain, kTwoTurns, false), ElementsAre("x|ü!</>\n", "y|z</>\n"));
  EXPECT_THAT(learned(kPlain, kTwoTurns, true), ElementsAre("y|z</>\n"));
}

TEST(LearnedChat, GenerationBlocksSayItThemselves) {
  EXPECT_THAT(learned(kMarked, kTwoTurns, false), ElementsAre("x|ü!</>", "y|z</>"));
  EXPECT_THAT(learned(kMarked, kTwoTurns, true), ElementsAre("y|z</>"));
}

TEST(LearnedChat, ATemplateThatRewritesThePastTeachesTheLastTurnOnly) {
  const auto refused = message_of<ConfigError>([] { learned(kForgetful, kTwoTurns, false); });
  EXPECT_THAT(refused,
              HasSubstr("[f:1] messages[1] = a turn that the template writes differently"));
  EXPECT_THAT(refused, HasSubstr("{% generation %}"));
  EXPECT_THAT(learned(kForgetful, kTwoTurns, true), ElementsAre("y|z</>"));
}

TEST(LearnedChat, RefusesConversationsWithoutAnswers) {
  EXPECT_THAT(message_of<ConfigError>(
                  [] { learned(kPlain, R"([{"role": "user", "content": "a"}])", false); }),
              HasSubstr("[f:1] messages = no turn of role assistant"));
  EXPECT_THAT(message_of<ConfigError>([] {
                learned("{% generation %}{% endgeneration %}{{ messages[0].content }}",
                        R"([{"role": "assistant", "content": "a"}])", false);
              }),
              HasSubstr("nothing inside generation blocks"));
  EXPECT_THAT(message_of<ConfigError>([] {
                learned("{{ raise_exception('no system role') }}",
                        R"([{"role": "assistant", "content": "a"}])", false);
              }),
              HasSubstr("[f:1] conversation = refused by the chat template: no system role"));
}

TEST(LearnedChat, LinesAreMessagesToolsAndVariables) {
  const ChatRequest parsed =
      request(R"({"messages": [], "tools": [], "kwargs": {"enable_thinking": false}})");
  EXPECT_TRUE(has_variable(parsed, "enable_thinking"));
  EXPECT_THAT(message_of<ConfigError>([] { request(R"({"text": "a"})"); }),
              HasSubstr("[line] chat = dict without messages"));
  EXPECT_THAT(message_of<ConfigError>([] { request(R"({"messages": [], "id": 1})"); }),
              HasSubstr("key = 'id', allowed messages | tools | kwargs"));
}

TEST(ChatWriter, ANamedFileWinsAndFingerprintsTellWritersApart) {
  const testing_support::TempFolder folder;
  const std::string file = folder.write("own.jinja", "own {{ messages[0].content }}");
  ChatFormat format;
  format.templates = {{"default", kPlain}};
  const ChatWriter own(format, file), other(format, "");
  EXPECT_EQ(own.render(request(R"([{"role": "user", "content": "a"}])")).text, "own a");
  EXPECT_NE(own.fingerprint(), other.fingerprint());
  EXPECT_EQ(other.fingerprint(), ChatWriter(format, "").fingerprint());
}

}  // namespace
}  // namespace headway::text
