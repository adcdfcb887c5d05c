// Where a model folder keeps its chat template and special tokens, and in which order they count.
#include "headway/text/chat_format.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "headway/base/error.h"

#include "tests/support/temp_folder.h"

namespace headway::text {
namespace {

using testing::HasSubstr;
using testing_support::message_of;
using testing_support::TempFolder;

TEST(ChatFormat, FilesComeBeforeTheConfig) {
  const TempFolder folder;
  folder.write("tokenizer_config.json", R"({"chat_template": "from config"})");
  EXPECT_EQ(find_chat_format(folder.path()).source("", false), "from config");
  folder.write("chat_template.json", R"({"chat_template": "from json"})");
  EXPECT_EQ(find_chat_format(folder.path()).source("", false), "from json");
  folder.write("chat_template.jinja", "from file");
  EXPECT_EQ(find_chat_format(folder.path()).source("", true), "from file");
  folder.write("additional_chat_templates/rag.jinja", "rag");
  EXPECT_EQ(find_chat_format(folder.path()).source("rag", false), "rag");
}

TEST(ChatFormat, NamedTemplatesAreChosenByNameOrByTools) {
  const TempFolder folder;
  folder.write("tokenizer_config.json",
               R"({"chat_template": [{"name": "default", "template": "D"},
                                     {"name": "tool_use", "template": "T"}]})");
  const ChatFormat format = find_chat_format(folder.path());
  EXPECT_EQ(format.source("", false), "D");
  EXPECT_EQ(format.source("", true), "T");
  EXPECT_EQ(format.source("tool_use", false), "T");
  EXPECT_THAT(message_of<ConfigError>([&] { format.source("nope", false); }),
              HasSubstr("--chat-template = 'nope', allowed default | tool_use"));
}

TEST(ChatFormat, SpecialTokensAreTexts) {
  const TempFolder folder;
  folder.write("tokenizer_config.json",
               R"({"bos_token": {"content": "<s>"}, "eos_token": "</s>"})");
  folder.write("special_tokens_map.json", R"({"eos_token": "other", "pad_token": "<pad>"})");
  const ChatFormat format = find_chat_format(folder.path());
  ASSERT_EQ(format.tokens.size(), 3u);
  EXPECT_EQ(format.tokens[0].second.text(), "<s>");
  EXPECT_EQ(format.tokens[1].second.text(), "</s>");
  EXPECT_EQ(format.tokens[2].first, "pad_token");
}

TEST(ChatFormat, NoTemplateAndDamagedOnesAreErrors) {
  const TempFolder folder;
  EXPECT_THAT(
      message_of<CheckpointError>([&] { find_chat_format(folder.path()).source("", false); }),
      HasSubstr("chat template = none"));
  folder.write("tokenizer_config.json", R"({"chat_template": 5})");
  EXPECT_THAT(message_of<CheckpointError>([&] { find_chat_format(folder.path()); }),
              HasSubstr("chat_template = 5, allowed a text or a list"));
  folder.write("tokenizer_config.json", "[]");
  EXPECT_THROW(find_chat_format(folder.path()), CheckpointError);
}

}  // namespace
}  // namespace headway::text
