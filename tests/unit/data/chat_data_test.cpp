// Conversations as training data: which tokens are labels, how whole ones are packed, what the
// cache keeps. Not for: where turns stand in a text (unit/text/learned_chat_test.cpp).
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "headway/base/error.h"
#include "headway/data/batch.h"
#include "headway/data/dataset.h"
#include "headway/text/byte_tokenizer.h"

#include "tests/support/temp_folder.h"

namespace headway::data {
namespace {

using testing::HasSubstr;
using testing_support::message_of;
using testing_support::TempFolder;

constexpr const char* kTemplate =
    "{% for m in messages %}{{ '?' if m.role == 'user' else '!' }}{{ m.content }}.{% endfor %}"
    "{{ '!' if add_generation_prompt }}";

std::string line(const std::string& question, const std::string& answer) {
  return R"({"messages": [{"role": "user", "content": ")" + question +
         R"("}, {"role": "assistant", "content": ")" + answer + "\"}]}\n";
}

class ChatData : public testing::Test {
 protected:
  void SetUp() override {
    tokenizer_folder_ = folder_.path() / "tokenizer";
    folder_.write("tokenizer/chat_template.jinja", kTemplate);
  }

  Dataset open(const std::string& lines, int64_t length, double fraction = 0.0,
               config::ChatDataConfig chat = {}) {
    DatasetRequest request;
    request.config.train = {folder_.write("chats.jsonl", lines)};
    request.config.sequence_length = length;
    request.config.validation_fraction = fraction;
    request.config.chat = chat;
    request.tokenizer = std::make_shared<text::ByteTokenizer>();
    request.model_vocab_size = 256;
    request.cache_folder = folder_ / "cache";
    request.chat = std::make_shared<const ChatEncoder>(chat, tokenizer_folder_.string());
    return open_dataset(request);
  }

  /// "text|labels" of a sample: '_' where nothing is learned.
  std::string shown(const PackedSamples& samples, int64_t sample) {
    const Batch batch = make_batch(samples, std::span(&sample, 1));
    std::string text, labels;
    for (int64_t i = 0; i < batch.input_ids.numel(); ++i) {
      text += static_cast<char>(batch.input_ids[i].item<int64_t>());
      const int64_t label = batch.labels[i].item<int64_t>();
      labels += label == kIgnoredLabel ? '_' : static_cast<char>(label);
    }
    return text + "|" + labels;
  }

  TempFolder folder_;
  std::filesystem::path tokenizer_folder_;
};

TEST_F(ChatData, LabelsAreTheAnswersAndWhatEndsThem) {
  const Dataset data = open(line("ab", "xyz"), 32);
  ASSERT_EQ(data.train.size(), 1);
  EXPECT_EQ(shown(data.train, 0), "?ab.!xyz.|____xyz._");
}

TEST_F(ChatData, WholeConversationsShareASampleAndSeeOnlyThemselves) {
  // 9, 5 and 13 tokens: the longest opens a sample, the others fill the next.
  const Dataset data = open(line("ab", "xyz") + line("", "x") + line("abcdef", "xyz"), 14);
  ASSERT_EQ(data.train.size(), 2);
  EXPECT_EQ(shown(data.train, 0), "?abcdef.!xyz.|________xyz._");
  EXPECT_EQ(shown(data.train, 1), "?ab.!xyz.?.!x.|____xyz.___x._");
  const int64_t second = 1;
  EXPECT_EQ(make_batch(data.train, std::span(&second, 1)).cu_seqlens,
            (std::vector<int64_t>{0, 9, 14}));
  EXPECT_EQ(data.train.cut_documents(), 0);
}

TEST_F(ChatData, LongConversationsLoseTheirEnd) {
  const Dataset data = open(line("ab", "xyz") + line("abcdefghi", "x"), 7);
  ASSERT_EQ(data.train.size(), 1);
  EXPECT_EQ(shown(data.train, 0), "?ab.!xy|____xy_");
  EXPECT_EQ(data.train.cut_documents(), 1);
  EXPECT_EQ(data.train.empty_documents(), 1);  // its answer is behind the cut
  EXPECT_THAT(message_of<ConfigError>([&] { open(line("abcdef", "x"), 4); }),
              HasSubstr("[data] sequence_length = 4, allowed one in which something"));
}

TEST_F(ChatData, ValidationIsWholeConversations) {
  const std::string lines = line("a", "x") + line("b", "y") + line("c", "z") + line("d", "w");
  const Dataset data = open(lines, 6, 0.3);
  ASSERT_TRUE(data.validation.has_value());
  EXPECT_EQ(data.validation->size(), 1);
  EXPECT_EQ(shown(*data.validation, 0), "?d.!w.|___w._");
  EXPECT_EQ(data.train.size(), 3);
  EXPECT_THAT(message_of<ConfigError>([&] { open(line("a", "x"), 6, 0.5); }),
              HasSubstr("validation_fraction = 0.5"));
}

TEST_F(ChatData, CacheKnowsTemplateAndTurns) {
  const std::string lines = line("a", "x");
  EXPECT_FALSE(open(lines, 6).cached);
  EXPECT_TRUE(open(lines, 6).cached);
  EXPECT_EQ(shown(open(lines, 6).train, 0), "?a.!x.|___x._");  // as read back from the file
  EXPECT_FALSE(open(lines, 6, 0.0, {.turns = config::ChatTurns::kLast}).cached);
  folder_.write("tokenizer/chat_template.jinja", std::string(kTemplate) + "{# other #}");
  EXPECT_FALSE(open(lines, 6).cached);
}

TEST_F(ChatData, ErrorsNameFileAndLine) {
  EXPECT_THAT(message_of<CheckpointError>([&] { open(line("a", "x") + "{\"text\": 1}\n", 6); }),
              HasSubstr("chats.jsonl:2] chat = dict without messages"));
  EXPECT_THAT(message_of<CheckpointError>([&] { open("\n[broken\n", 6); }),
              HasSubstr("chats.jsonl:2"));
  DatasetRequest request;
  request.config.train = {folder_.write("plain.txt", "text")};
  request.config.sequence_length = 4;
  request.tokenizer = std::make_shared<text::ByteTokenizer>();
  request.model_vocab_size = 256;
  request.cache_folder = folder_ / "other";
  request.chat =
      std::make_shared<const ChatEncoder>(config::ChatDataConfig{}, tokenizer_folder_.string());
  EXPECT_THAT(message_of<ConfigError>([&] { open_dataset(request); }),
              HasSubstr("plain.txt = no JSON lines"));
  EXPECT_THROW(ChatEncoder({}, (folder_ / "nothing").string()), CheckpointError);
}

}  // namespace
}  // namespace headway::data
