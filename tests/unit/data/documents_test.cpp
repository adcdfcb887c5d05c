// Documents of text and JSON lines, across chunk borders, and every line or byte that is refused.
// Not for: random damage (tests/fuzz/data).
#include "headway/data/documents.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "headway/base/error.h"
#include "headway/base/text_util.h"

#include "tests/support/temp_folder.h"

namespace headway::data {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing_support::message_of;
using testing_support::TempFolder;

std::vector<std::string> documents(const std::string& path, SourceFormat format,
                                   const std::string& field = "text") {
  std::vector<std::string> result;
  std::string document;
  read_documents({path, format}, field, [&](std::string_view piece, bool last) {
    EXPECT_FALSE(find_invalid_utf8(piece).has_value());
    document += piece;
    if (last) result.push_back(std::exchange(document, ""));
  });
  EXPECT_EQ(document, "") << "the last document was not closed";
  return result;
}

TEST(ReadDocuments, TextFileIsOneDocument) {
  const TempFolder folder;
  EXPECT_THAT(documents(folder.write("a", "x\ny\r\n\xE2\x82\xAC"), SourceFormat::kText),
              ElementsAre("x\ny\r\n\xE2\x82\xAC"));
  EXPECT_THAT(documents(folder.write("b", ""), SourceFormat::kText), ElementsAre(""));
}

TEST(ReadDocuments, CharactersAcrossChunksStayWhole) {
  const TempFolder folder;
  std::string text = "x";
  while (text.size() < (std::size_t{5} << 19)) text += "\xF0\x9F\x98\x80";
  EXPECT_THAT(documents(folder.write("a", text), SourceFormat::kText), ElementsAre(text));
}

TEST(ReadDocuments, JsonLinesAreDocuments) {
  const TempFolder folder;
  const std::string lines =
      "\xEF\xBB\xBF{\"text\": \"a\\nb\", \"n\": [1, {}]}\r\n\n  \n{\"text\": \"\"}\n"
      "{\"x\": 1, \"text\": \"\\u20ac\xC2\x85\xE2\x80\xA8z\"}";
  EXPECT_THAT(documents(folder.write("a", lines), SourceFormat::kJsonl),
              ElementsAre("a\nb", "", "\xE2\x82\xAC\xC2\x85\xE2\x80\xA8z"));
  EXPECT_THAT(documents(folder.write("b", "{\"body\":\"q\"}\n"), SourceFormat::kJsonl, "body"),
              ElementsAre("q"));
}

TEST(ReadDocuments, LongLinesCrossChunks) {
  const TempFolder folder;
  const std::string text((std::size_t{5} << 19), 'q');
  const std::string lines = "{\"text\":\"" + text + "\"}\n{\"text\":\"end\"}\n";
  EXPECT_THAT(documents(folder.write("a", lines), SourceFormat::kJsonl), ElementsAre(text, "end"));
}

TEST(ReadDocuments, HashIsThatOfTheBytes) {
  const TempFolder folder;
  const std::string content = "{\"text\": \"a\"}\n";
  const std::string path = folder.write("a", content);
  const auto ignore = [](std::string_view, bool) {};
  EXPECT_EQ(hash_file(path), ContentHash().update(content).value());
  EXPECT_EQ(read_documents({path, SourceFormat::kJsonl}, "text", ignore), hash_file(path));
  EXPECT_EQ(read_documents({path, SourceFormat::kText}, "text", ignore), hash_file(path));
}

class RefusedDocuments : public testing::Test {
 protected:
  std::string refuse(SourceFormat format, const std::string& content) {
    path_ = folder_.write("file", content);
    return message_of<CheckpointError>([&] { documents(path_, format); });
  }
  TempFolder folder_;
  std::string path_;
};

TEST_F(RefusedDocuments, NotUtf8NamesFileAndOffset) {
  EXPECT_THAT(refuse(SourceFormat::kText, "abc\xE9xyz"),
              HasSubstr("/file] byte at offset 3 = 0xE9 (not UTF-8)"));
  EXPECT_THAT(refuse(SourceFormat::kText, "abc\xE2\x82"), HasSubstr("offset 3 = 0xE2"));
  std::string late(3 << 20, 'a');
  late.push_back('\xFF');
  EXPECT_THAT(refuse(SourceFormat::kText, late), HasSubstr("offset 3145728 = 0xFF"));
  EXPECT_THAT(refuse(SourceFormat::kJsonl, "{\"text\": \"a\"}\n{\"text\": \"\xFF\"}\n"),
              HasSubstr("/file:2] byte at offset 24 = 0xFF"));
}

TEST_F(RefusedDocuments, BadLinesNameFileAndLine) {
  const std::string good = "{\"text\": \"a\"}\n\n";
  const auto third = [&](const std::string& line) {
    return refuse(SourceFormat::kJsonl, good + line + "\n" + good);
  };
  EXPECT_THAT(third("[1, 2]"), HasSubstr("/file:3] line = a list of 2 values, allowed an object"));
  EXPECT_THAT(third("5"), HasSubstr("/file:3] line = 5"));
  EXPECT_THAT(third("{\"text\": "), HasSubstr("/file:3]"));
  EXPECT_THAT(third("{\"text\": \"a\"} {}"), HasSubstr("/file:3]"));
  EXPECT_THAT(third("{\"text\": 7}"), HasSubstr("/file:3] text = 7, allowed a string"));
  EXPECT_THAT(third("{\"text\": null}"), HasSubstr("/file:3] text = null, allowed a string"));
  EXPECT_THAT(third("{\"content\": \"a\", \"id\": 3}"),
              HasSubstr("/file:3] text = absent, allowed a string; hint: data.text_field names the "
                        "field, this line has: content, id"));
  EXPECT_THAT(third("{\"text\": \"a\", \"text\": \"b\"}"), HasSubstr("given twice"));
  EXPECT_THAT(third("{\"text\": \"\\ud800\"}"), HasSubstr("/file:3]"));
  EXPECT_THAT(third(std::string(100000, '[')), HasSubstr("nesting"));
}

TEST(ReadDocumentsErrors, MissingFile) {
  const auto message = message_of<CheckpointError>([] { hash_file("no/such/file"); });
  EXPECT_THAT(message, HasSubstr("[no/such/file]"));
}

}  // namespace
}  // namespace headway::data
