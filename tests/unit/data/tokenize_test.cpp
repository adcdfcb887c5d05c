// Tokens of documents: pieces, specials around them, progress, and what the content key depends on.
// Not for: the cache.
#include "headway/data/tokenize.h"

#include <ATen/Parallel.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "headway/base/error.h"

#include "tests/support/temp_folder.h"
#include "tests/unit/data/fake_tokenizer.h"

namespace headway::data {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing_support::message_of;
using testing_support::TempFolder;

TokenizeRequest bytes_request(const std::vector<std::string>& paths) {
  TokenizeRequest request;
  request.files = find_sources(paths, "data.train").files;
  request.tokenizer = std::make_shared<text::ByteTokenizer>();
  return request;
}

std::vector<std::int64_t> all_tokens(const TokenStore& store) {
  std::vector<std::int64_t> tokens(static_cast<std::size_t>(store.size()));
  store.copy(0, tokens);
  return tokens;
}

TEST(Tokenize, BytesOfAllDocumentsInOrder) {
  const TempFolder folder;
  folder.write("1.txt", "ab");
  folder.write("2.txt", "");
  folder.write("3.jsonl", "{\"text\": \"c\"}\n{\"text\": \"\"}\n{\"text\": \"de\"}\n");
  const auto store = tokenize_in_memory(bytes_request({folder.path().string()}));
  EXPECT_THAT(all_tokens(*store), ElementsAre('a', 'b', 'c', 'd', 'e'));
  EXPECT_THAT(store->document_ends(), ElementsAre(2, 3, 5));
  EXPECT_EQ(store->vocab_size(), 256);
}

TEST(Tokenize, LongDocumentInPiecesEqualsWhole) {
  const TempFolder folder;
  std::string text;
  for (int i = 0; text.size() < (std::size_t{3} << 20); ++i) text += std::to_string(i) + "\xC3\xA9";
  const auto store = tokenize_in_memory(bytes_request({folder.write("a", text)}));
  EXPECT_EQ(all_tokens(*store), text::ByteTokenizer().encode(text, false));
  EXPECT_EQ(store->document_ends().size(), 1u);
}

TEST(Tokenize, SpecialsGoAroundWholeDocuments) {
  const TempFolder folder;
  // The word crosses the border of a 1 MiB piece.
  std::string text((1 << 20) - 3, ' ');
  text.append("sixsix x");
  auto request =
      bytes_request({folder.write("a", text), folder.write("b", "xx"), folder.write("c", "")});
  request.tokenizer = std::make_shared<LengthTokenizer>(100);
  const auto store = tokenize_in_memory(request);
  EXPECT_THAT(all_tokens(*store), ElementsAre(0, 7, 2, 1, 0, 3, 1));
  EXPECT_THAT(store->document_ends(), ElementsAre(4, 7));
}

TEST(Tokenize, EndOfTextIsNotDoubled) {
  class EndingTokenizer : public LengthTokenizer {
   public:
    using LengthTokenizer::LengthTokenizer;
    std::vector<std::int64_t> encode(std::string_view text, bool special) const override {
      auto ids = LengthTokenizer::encode(text, special);
      if (special) ids.push_back(kEos);
      return ids;
    }
  };
  const TempFolder folder;
  auto request = bytes_request({folder.write("a", "x")});
  request.tokenizer = std::make_shared<EndingTokenizer>(100);
  EXPECT_THAT(all_tokens(*tokenize_in_memory(request)), ElementsAre(0, 2, 1));
}

TEST(Tokenize, ProgressEndsAtTheTotal) {
  const TempFolder folder;
  auto request =
      bytes_request({folder.write("a", std::string(3 << 20, 'x')), folder.write("b", "y")});
  std::vector<TokenizeProgress> seen;
  request.progress = [&](const TokenizeProgress& progress) { seen.push_back(progress); };
  tokenize_in_memory(request);
  ASSERT_GE(seen.size(), 4u);
  EXPECT_LT(seen.front().bytes_done, seen.back().bytes_done);
  EXPECT_EQ(seen.back().bytes_done, (3 << 20) + 1);
  EXPECT_EQ(seen.back().bytes_total, (3 << 20) + 1);
  EXPECT_EQ(seen.back().tokens, (3 << 20) + 1);
}

TEST(Tokenize, ThreadsDoNotChangeTheResult) {
  const TempFolder folder;
  std::string lines;
  for (int i = 0; i < 5000; ++i) {
    lines += "{\"text\": \"" + std::string(static_cast<std::size_t>(i % 97), 'a') +
             std::to_string(i) + "\"}\n";
  }
  const auto request = bytes_request(
      {folder.write("a.jsonl", lines), folder.write("b", std::string(9 << 20, 'y') + "é")});
  const int threads = at::get_num_threads();
  at::set_num_threads(1);
  const auto one = tokenize_in_memory(request);
  at::set_num_threads(4);
  const auto four = tokenize_in_memory(request);
  at::set_num_threads(threads);
  EXPECT_EQ(all_tokens(*one), all_tokens(*four));
  EXPECT_TRUE(std::ranges::equal(one->document_ends(), four->document_ends()));
  EXPECT_EQ(one->document_ends().size(), 5001u);
}

TEST(Tokenize, NoTextIsAnError) {
  const TempFolder folder;
  auto request =
      bytes_request({folder.write("a", ""), folder.write("b.jsonl", "\n{\"text\":\"\"}\n")});
  request.where = "data.train";
  EXPECT_THAT(message_of<CheckpointError>([&] { tokenize_in_memory(request); }),
              HasSubstr("[data.train] tokens = 0 in 2 files, allowed at least 1"));
}

TEST(Tokenize, ChangedFileIsAnError) {
  const TempFolder folder;
  const auto request = bytes_request({folder.write("a", "old")});
  const SourceContent content = inspect_sources(request);
  folder.write("a", "new");
  TokenCollector collector(content.info);
  EXPECT_THAT(message_of<CheckpointError>([&] { tokenize(request, content, collector); }),
              HasSubstr("changed while it was read"));
}

TEST(Tokenize, IdsOutsideTheVocabularyAreABug) {
  const TempFolder folder;
  auto request = bytes_request({folder.write("a", "seven77")});
  request.tokenizer = std::make_shared<LengthTokenizer>(8);
  EXPECT_THAT(message_of<InternalError>([&] { tokenize_in_memory(request); }),
              HasSubstr("id = 8, allowed 0 to 7"));
}

TEST(ContentKey, DependsOnContentAndTokenizerButNotOnPaths) {
  const TempFolder folder;
  const auto key = [](const TokenizeRequest& request) {
    return inspect_sources(request).info.content;
  };
  const auto base = bytes_request({folder.write("x/1", "ab"), folder.write("x/2", "c")});
  EXPECT_EQ(key(base), key(bytes_request({folder.write("y/1", "ab"), folder.write("y/2", "c")})));
  EXPECT_NE(key(base), key(bytes_request({folder.write("y/1", "a"), folder.write("y/2", "bc")})));
  EXPECT_NE(key(base), key(bytes_request({folder.write("z/1", "c"), folder.write("z/2", "ab")})));
  auto other = base;
  other.tokenizer = std::make_shared<LengthTokenizer>(256);
  EXPECT_NE(key(base), key(other));
  other = base;
  other.text_field = "body";
  EXPECT_EQ(key(base), key(other)) << "no JSON lines, so the field does not matter";
  for (SourceFile& file : other.files) file.format = SourceFormat::kJsonl;
  const auto lines = key(other);
  EXPECT_NE(key(base), lines);
  other.text_field = "text";
  EXPECT_NE(key(other), lines);
}

}  // namespace
}  // namespace headway::data
