// Every line of every golden tokenizer: ids, ids with special tokens, offsets, both decodes,
// decoding of arbitrary ids, pieces of streaming decode.
// Not for: errors or speed.
#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "headway/base/json.h"
#include "headway/text/decode_stream.h"
#include "headway/text/json_tokenizer.h"
#include "headway/text/unicode.h"

namespace headway::text {
namespace {

namespace fs = std::filesystem;
using Ids = std::vector<std::int64_t>;

const fs::path kFolder = fs::path(HEADWAY_TESTS_DIR) / "golden" / "text";

std::vector<std::string> folders() {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(kFolder)) {
    if (entry.is_directory()) names.push_back(entry.path().filename().string());
  }
  std::sort(names.begin(), names.end());
  return names;
}

std::vector<Json> lines_of(const fs::path& path) {
  std::vector<Json> lines;
  std::ifstream file(path, std::ios::binary);
  for (std::string line; std::getline(file, line);) lines.push_back(Json::parse(line));
  return lines;
}

std::string code_points(const std::string& text) {
  std::string out;
  for (const char32_t point : utf8_to_points(text)) {
    out += fmt::format("{:X} ", static_cast<std::uint32_t>(point));
  }
  return out.substr(0, 400);
}

Json offsets_json(const std::vector<Offset>& offsets) {
  Json list = Json::array();
  for (const Offset& offset : offsets) list.push_back({offset.begin, offset.end});
  return list;
}

void check_case(const JsonTokenizer& tokenizer, const Json& line, const std::string& where) {
  const auto text = line["text"].get<std::string>();
  const std::string note = where + ": " + code_points(text);
  const auto ids = line["ids"].get<Ids>();
  EXPECT_EQ(tokenizer.encode(text, false), ids) << note;
  EXPECT_EQ(tokenizer.encode(text, true), line["ids_special"].get<Ids>()) << note;
  const Encoding encoding = tokenizer.encode_with_offsets(text, false);
  EXPECT_EQ(encoding.ids, ids) << note;
  EXPECT_EQ(offsets_json(encoding.offsets), line["offsets"]) << note;
  EXPECT_EQ(tokenizer.encode_with_offsets(text, true).ids, line["ids_special"].get<Ids>());
  EXPECT_EQ(tokenizer.decode(ids, false), line["decoded"].get<std::string>()) << note;
  EXPECT_EQ(tokenizer.decode(ids, true), line["decoded_skip"].get<std::string>()) << note;
}

void check_stream(const JsonTokenizer& tokenizer, const Json& line, const std::string& where) {
  WindowStream stream(tokenizer, true);
  const auto ids = line["ids"].get<Ids>();
  const Json& pieces = line["pieces"];
  for (std::size_t i = 0; i < ids.size(); ++i) {
    const std::string piece = stream.push(ids[i]);
    if (i == pieces.size()) {
      ASSERT_TRUE(stream.broken().has_value()) << where;
      EXPECT_EQ(*stream.broken(), line["error"].get<std::string>()) << where;
      return;
    }
    ASSERT_FALSE(stream.broken().has_value()) << where;
    EXPECT_EQ(piece, pieces[i].is_null() ? "" : pieces[i].get<std::string>())
        << where << " id " << i;
  }
  EXPECT_FALSE(line.contains("error"));
}

class TokenizerGolden : public testing::TestWithParam<std::string> {};

TEST_P(TokenizerGolden, EncodesAndDecodes) {
  const auto tokenizer = JsonTokenizer::load(kFolder / GetParam() / "tokenizer.json", false);
  int number = 0;
  for (const Json& line : lines_of(kFolder / GetParam() / "cases.jsonl")) {
    check_case(*tokenizer, line, fmt::format("line {}", ++number));
  }
  EXPECT_GT(number, 100);
}

TEST_P(TokenizerGolden, DecodesArbitraryIds) {
  const auto tokenizer = JsonTokenizer::load(kFolder / GetParam() / "tokenizer.json", false);
  int number = 0;
  for (const Json& line : lines_of(kFolder / GetParam() / "decode.jsonl")) {
    const auto ids = line["ids"].get<Ids>();
    ++number;
    EXPECT_EQ(tokenizer->decode(ids, false), line["decoded"].get<std::string>()) << number;
    EXPECT_EQ(tokenizer->decode(ids, true), line["decoded_skip"].get<std::string>()) << number;
  }
  EXPECT_GT(number, 10);
}

TEST_P(TokenizerGolden, Streams) {
  const auto tokenizer = JsonTokenizer::load(kFolder / GetParam() / "tokenizer.json", false);
  int number = 0;
  for (const Json& line : lines_of(kFolder / GetParam() / "stream.jsonl")) {
    check_stream(*tokenizer, line, fmt::format("line {}", ++number));
  }
  EXPECT_GT(number, 10);
}

INSTANTIATE_TEST_SUITE_P(All, TokenizerGolden, testing::ValuesIn(folders()), [](const auto& info) {
  std::string name = info.param;
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
});

TEST(TokenizerGoldenConfig, AddedTokensOfTheSideFileAreMerged) {
  const auto tokenizer = JsonTokenizer::load(kFolder / "qwen35-like" / "tokenizer.json", true);
  int number = 0;
  for (const Json& line : lines_of(kFolder / "qwen35-like" / "cases_config.jsonl")) {
    check_case(*tokenizer, line, fmt::format("line {}", ++number));
  }
  EXPECT_GT(number, 10);
}

void check_set(const Json& classes, const std::string& key, bool (*contains)(char32_t)) {
  std::vector<bool> expected(kEndOfUnicode);
  for (const Json& range : classes[key]) {
    for (auto point = range[0].get<std::size_t>(); point <= range[1].get<std::size_t>(); ++point) {
      expected[point] = true;
    }
  }
  for (char32_t point = 0; point < kEndOfUnicode; ++point) {
    if (point >= 0xD800 && point < 0xE000) continue;
    ASSERT_EQ(contains(point), expected[point]) << key << " U+" << std::hex << std::uint32_t(point);
  }
}

TEST(TokenizerGoldenClasses, EveryCharacterIsInTheSetsOfTheReference) {
  const Json classes = parse_json_file((kFolder / "unicode_classes.json").string());
  check_set(classes, "regex \\p{L}", [](char32_t p) { return in_mask(p, mask::kLetter); });
  check_set(classes, "regex \\p{N}", [](char32_t p) { return in_mask(p, mask::kNumber); });
  check_set(classes, "regex \\p{M}", [](char32_t p) { return in_mask(p, mask::kMark); });
  check_set(classes, "regex \\p{P}", [](char32_t p) { return in_mask(p, mask::kPunctuation); });
  check_set(classes, "regex \\p{S}", [](char32_t p) { return in_mask(p, mask::kSymbol); });
  check_set(classes, "regex \\p{Han}", [](char32_t p) { return in_mask(p, mask::kHan); });
  check_set(classes, "regex \\s", is_white_space);
  check_set(classes, "added token rstrip: space characters", is_white_space);
  check_set(classes, "regex \\w", [](char32_t p) { return regex_word_characters().contains(p); });
  check_set(classes, "pre_tokenizer Whitespace word",
            [](char32_t p) { return word_characters().contains(p); });
  check_set(classes, "added token single_word: word characters",
            [](char32_t p) { return word_characters().contains(p); });
  check_set(classes, "pre_tokenizer Punctuation",
            [](char32_t p) { return punctuation_characters().contains(p); });
  check_set(classes, "pre_tokenizer Digits",
            [](char32_t p) { return numeric_characters().contains(p); });
  check_set(classes, "normalizer StripAccents",
            [](char32_t p) { return accent_characters().contains(p); });
}

TEST(TokenizerGoldenClasses, LowercaseIsThatOfTheReference) {
  const Json classes = parse_json_file((kFolder / "unicode_classes.json").string());
  std::map<char32_t, std::string> expected;
  for (const auto& [key, value] : classes["normalizer Lowercase (code point: result)"].items()) {
    expected[static_cast<char32_t>(std::stoul(key, nullptr, 16))] = value.get<std::string>();
  }
  for (char32_t point = 0; point < kEndOfUnicode; ++point) {
    if (point >= 0xD800 && point < 0xE000) continue;
    const LowerCase lower = lower_case(point);
    std::string text = point_to_utf8(lower.first);
    if (lower.second != 0) append_point(text, lower.second);
    const auto found = expected.find(point);
    ASSERT_EQ(text, found == expected.end() ? point_to_utf8(point) : found->second)
        << std::hex << std::uint32_t(point);
  }
}

}  // namespace
}  // namespace headway::text
