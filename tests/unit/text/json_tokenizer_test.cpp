// What a tokenizer.json may hold, every documented error with its text, side files, pairs, windows.
// Not for: ids of published pipelines (tests/golden/text).
#include "headway/text/json_tokenizer.h"

#include <fstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "headway/base/error.h"
#include "headway/text/tokenizer_factory.h"

namespace headway::text {
namespace {

namespace fs = std::filesystem;
using testing::ElementsAre;
using testing::HasSubstr;

/// A tokenizer.json with the given model and further sections.
std::string document(const std::string& model, const std::string& sections = "") {
  return "{\"version\":\"1.0\"," + sections + "\"model\":" + model + "}";
}

std::string bpe(const std::string& vocab, const std::string& merges,
                const std::string& options = "") {
  return R"({"type":"BPE",)" + options + "\"vocab\":" + vocab + ",\"merges\":" + merges + "}";
}

const std::string kLetters = bpe(R"({"a":0,"b":1,"ab":2," ":3})", R"(["a b"])");

std::string refusal(const std::string& text) {
  try {
    JsonTokenizer tokenizer(text, "t.json");
    tokenizer.encode("abcz", true);
  } catch (const Error& error) {
    return error.what();
  }
  return "accepted";
}

std::vector<std::int64_t> ids(const std::string& text, const std::string& input) {
  return JsonTokenizer(text, "t.json").encode(input, false);
}

TEST(JsonTokenizerErrors, NameFileKeyAndRule) {
  EXPECT_THAT(refusal("{"), HasSubstr("[t.json]"));
  EXPECT_THAT(refusal("{}"), HasSubstr("[t.json] model = absent"));
  EXPECT_THAT(refusal(R"({"version":"2.0"})"), HasSubstr("version = \"2.0\", allowed \"1.0\""));
  EXPECT_THAT(refusal(document(bpe(R"({"a":-1})", "[]"))),
              HasSubstr("model.vocab[\"a\"] = -1, allowed an integer in [0, "));
  EXPECT_THAT(refusal(document(bpe(R"({"a":1e3})", "[]"))), HasSubstr("allowed an integer"));
  EXPECT_THAT(refusal(document(bpe(R"({"a":18446744073709551615})", "[]"))),
              HasSubstr("allowed an integer"));
  EXPECT_THAT(refusal(document(bpe(R"({"a":0,"a":1})", "[]"))), HasSubstr("given twice"));
  EXPECT_THAT(refusal(document(bpe(R"({"a":0,"b":1})", R"(["a b"])"))),
              HasSubstr("model.merges[0] = \"a b\", allowed tokens of model.vocab; \"ab\" is not"));
  EXPECT_THAT(refusal(document(bpe(R"({"a":0})", R"(["a"])"))),
              HasSubstr("two tokens with one space between"));
  EXPECT_THAT(refusal(document(bpe(R"({"a":0,"b":1,"ab":2})", R"(["a b",["a","b"]])"))),
              HasSubstr("model.merges[1] = a list of 2 values, allowed one kind of merge"));
  EXPECT_THAT(refusal(document(bpe(R"({"a":0})", "[]", R"("dropout":1.5,)"))),
              HasSubstr("model.dropout = 1.5, allowed a number in [0, 1]"));
  EXPECT_THAT(refusal(document(bpe(R"({"a":0})", "[]", R"("unk_token":"u",)"))),
              HasSubstr("model.unk_token = \"u\", allowed a token of model.vocab"));
}

TEST(JsonTokenizerErrors, ComponentsThatAreNotBuilt) {
  EXPECT_THROW(JsonTokenizer(document(bpe(R"({"a":0})", "[]", R"("dropout":0.1,)")), "t.json"),
               UnsupportedError);
  for (const std::string section : {"normalizer", "pre_tokenizer", "post_processor", "decoder"}) {
    const std::string text = document(kLetters, "\"" + section + "\":{\"type\":\"Nope\"},");
    EXPECT_THROW(JsonTokenizer(text, "t.json"), UnsupportedError);
    EXPECT_THAT(refusal(text), HasSubstr(section + ".type = \"Nope\": not built, allowed"));
  }
  EXPECT_THAT(refusal(document(R"({"type":"Nope"})")), HasSubstr("model.type = \"Nope\""));
}

TEST(JsonTokenizerErrors, WrongStages) {
  const auto pre = [](const std::string& json) {
    return refusal(document(kLetters, "\"pre_tokenizer\":" + json + ","));
  };
  EXPECT_THAT(
      pre(R"({"type":"Split","pattern":{"Regex":"("},"behavior":"Isolated","invert":false})"),
      HasSubstr("pre_tokenizer.pattern.Regex = \"(\", allowed a regular expression"));
  EXPECT_THAT(pre(R"({"type":"Split","pattern":{"String":"x"},"behavior":"Other","invert":false})"),
              HasSubstr("pre_tokenizer.behavior = \"Other\", allowed Removed, Isolated"));
  EXPECT_THAT(pre(R"({"type":"ByteLevel","add_prefix_space":false})"),
              HasSubstr("pre_tokenizer.trim_offsets = absent"));
  EXPECT_THAT(pre(R"({"type":"Metaspace","replacement":"ab"})"),
              HasSubstr("pre_tokenizer.replacement = \"ab\", allowed one character"));
  EXPECT_THAT(refusal(document(kLetters, R"("post_processor":{"type":"BertProcessing",)"
                                         R"("sep":["x",99],"cls":["a",0]},)")),
              HasSubstr("post_processor: id = 99, allowed ids of the vocabulary"));
  EXPECT_THAT(refusal(document(kLetters, R"("truncation":{"direction":"Right","max_length":2,)"
                                         R"("strategy":"LongestFirst","stride":3},)")),
              HasSubstr("truncation.max_length = 2, allowed at least stride"));
}

TEST(JsonTokenizer, DuplicatePairKeepsTheLaterRank) {
  const std::string vocab = R"({"a":0,"b":1,"c":2,"ab":3,"bc":4})";
  EXPECT_THAT(ids(document(bpe(vocab, R"(["a b","b c"])")), "abc"), ElementsAre(3, 2));
  EXPECT_THAT(ids(document(bpe(vocab, R"(["a b","b c","a b"])")), "abc"), ElementsAre(0, 4));
}

TEST(JsonTokenizer, CharactersNobodyKnowsAreDroppedAndOffsetsStayTrue) {
  const JsonTokenizer tokenizer(document(bpe(R"({"a":0})", "[]")), "t.json");
  const Encoding encoding = tokenizer.encode_with_offsets("XaYa", false);
  EXPECT_THAT(encoding.ids, ElementsAre(0, 0));
  EXPECT_THAT(encoding.offsets, ElementsAre(Offset{1, 2}, Offset{3, 4}));
}

TEST(JsonTokenizer, ByteTokensOvertakeAPendingUnknown) {
  const std::string vocab = R"({"u":0,"a":1,"<0x42>":2})";
  EXPECT_THAT(ids(document(bpe(vocab, "[]", R"("unk_token":"u","byte_fallback":true,)")), "XBa"),
              ElementsAre(2, 0, 1));
}

TEST(JsonTokenizer, LongPiecesEqualTheirMergesOneByOne) {
  const JsonTokenizer tokenizer(
      document(bpe(R"({"a":0,"b":1,"ab":2,"abab":3," ":4})", R"(["a b","ab ab"])")), "t.json");
  std::string text;
  std::vector<std::int64_t> expected;
  for (int i = 0; i < 50; ++i) {
    text += "ababab ";
    expected.insert(expected.end(), {3, 2, 4});
  }
  EXPECT_EQ(tokenizer.encode(text, false), expected);
}

TEST(JsonTokenizer, BytesThatAreNotUtf8BecomeReplacements) {
  const JsonTokenizer tokenizer(document(bpe(R"({"a":0,"\ufffd":1})", "[]")), "t.json");
  const Encoding encoding = tokenizer.encode_with_offsets(
      "a\xFF\xE2\x82"
      "a",
      false);
  EXPECT_THAT(encoding.ids, ElementsAre(0, 1, 1, 0));
  EXPECT_THAT(encoding.offsets,
              ElementsAre(Offset{0, 1}, Offset{1, 2}, Offset{2, 3}, Offset{3, 4}));
}

const std::string kTemplate =
    R"("post_processor":{"type":"TemplateProcessing",)"
    R"("single":[{"SpecialToken":{"id":"b","type_id":0}},{"Sequence":{"id":"A","type_id":0}}],)"
    R"("pair":[{"Sequence":{"id":"A","type_id":0}},{"SpecialToken":{"id":"b","type_id":0}},)"
    R"({"Sequence":{"id":"B","type_id":1}}],)"
    R"("special_tokens":{"b":{"id":"b","ids":[1],"tokens":["b"]}}},)";

TEST(JsonTokenizer, TemplatesForOneTextAndForTwo) {
  const JsonTokenizer tokenizer(document(kLetters, kTemplate), "t.json");
  EXPECT_THAT(tokenizer.encode("ab", true), ElementsAre(1, 2));
  EXPECT_THAT(tokenizer.encode_pair("a", "ab", true).ids, ElementsAre(0, 1, 2));
  EXPECT_THAT(tokenizer.encode_pair("a", "ab", false).ids, ElementsAre(0, 2));
}

TEST(JsonTokenizer, WindowsAndPaddingOnlyWhenAskedFor) {
  const JsonTokenizer tokenizer(
      document(kLetters,
               R"("truncation":{"direction":"Right","max_length":3,"strategy":"LongestFirst",)"
               R"("stride":1},"padding":{"strategy":{"Fixed":4},"direction":"Left","pad_id":3,)"
               R"("pad_type_id":0,"pad_token":" "},)" +
                   kTemplate),
      "t.json");
  EXPECT_EQ(tokenizer.encode("a a", true).size(), 4u);
  const auto windows = tokenizer.encode_padded("a a", true);
  ASSERT_EQ(windows.size(), 2u);
  EXPECT_THAT(windows[0].ids, ElementsAre(3, 1, 0, 3));
  EXPECT_THAT(windows[1].ids, ElementsAre(3, 1, 3, 0));
}

TEST(Truncation, PairsAndSides) {
  Truncation truncation{Side::kRight, 10, TruncationStrategy::kLongestFirst, 0};
  EXPECT_EQ(truncated_pair(truncation, {3, 20}, 0).first, 3u);
  EXPECT_EQ(truncated_pair(truncation, {3, 20}, 0).second, 7u);
  EXPECT_EQ(truncated_pair(truncation, {20, 20}, 1).first, 4u);
  EXPECT_EQ(truncated_pair(truncation, {20, 20}, 1).second, 5u);
  truncation.strategy = TruncationStrategy::kOnlySecond;
  EXPECT_EQ(truncated_pair(truncation, {8, 20}, 0).second, 2u);
  EXPECT_THROW(truncated_pair(truncation, {12, 20}, 0), ConfigError);
  EXPECT_THROW(truncated_pair(truncation, {12, 20}, 11), ConfigError);
  truncation = {Side::kLeft, 2, TruncationStrategy::kOnlyFirst, 1};
  const Encoding encoding{{1, 2, 3, 4}, {{0, 1}, {1, 2}, {2, 3}, {3, 4}}};
  const auto windows = truncate(truncation, encoding, 0);
  ASSERT_EQ(windows.size(), 3u);
  EXPECT_THAT(windows[0].ids, ElementsAre(3, 4));
  EXPECT_THAT(windows[2].ids, ElementsAre(1, 2));
}

TEST(JsonTokenizer, IdsOfAddedTokensFollowTheLibraryNotTheFile) {
  const JsonTokenizer tokenizer(
      document(kLetters, R"("added_tokens":[{"id":300,"content":"<x>","special":true},)"
                         R"({"id":0,"content":"ab","special":false}],)"),
      "t.json");
  EXPECT_EQ(tokenizer.token_to_id("<x>"), 4);
  EXPECT_EQ(tokenizer.token_to_id("ab"), 2);
  EXPECT_EQ(tokenizer.vocab_size(), 5);
  EXPECT_THAT(tokenizer.encode("a<x>ab", false), ElementsAre(0, 4, 2));
  EXPECT_EQ(tokenizer.decode(std::vector<std::int64_t>{0, 4, 2, 77}, true), "a ab");
}

TEST(JsonTokenizer, FolderGivesSpecialIdsAndIsSavedAgain) {
  const fs::path folder = fs::path(testing::TempDir()) / "json_tokenizer_folder";
  fs::remove_all(folder);
  fs::create_directories(folder / "copy");
  std::ofstream(folder / "tokenizer.json") << document(kLetters);
  std::ofstream(folder / "tokenizer_config.json")
      << R"({"bos_token":{"content":"a"},"added_tokens_decoder":{"4":{"content":"<e>"}}})";
  std::ofstream(folder / "special_tokens_map.json") << R"({"bos_token":"b","eos_token":"<e>"})";
  const auto tokenizer = load_tokenizer(folder.string());
  EXPECT_EQ(tokenizer->bos_id(), 0);
  EXPECT_EQ(tokenizer->eos_id(), 4);
  EXPECT_EQ(tokenizer->vocab_size(), 5);
  tokenizer->save(folder / "copy");
  const auto again = load_tokenizer((folder / "copy").string());
  EXPECT_EQ(again->fingerprint(), tokenizer->fingerprint());
  const auto alone = load_tokenizer((folder / "tokenizer.json").string());
  EXPECT_EQ(alone->bos_id(), std::nullopt);
  EXPECT_NE(alone->fingerprint(), tokenizer->fingerprint());
  std::ofstream(folder / "tokenizer_config.json") << R"({"added_tokens_decoder":{"x":{}}})";
  EXPECT_THROW(load_tokenizer(folder.string()), CheckpointError);
  fs::remove_all(folder);
}

}  // namespace
}  // namespace headway::text
