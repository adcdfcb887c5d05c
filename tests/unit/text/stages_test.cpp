// Single stages: split behaviors, patterns of the dialect, normalizers, decoders.
// Not for: whole tokenizers (json_tokenizer_test.cpp).
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "headway/text/decoder.h"
#include "headway/text/normalizer.h"
#include "headway/text/pre_tokenizer.h"

namespace headway::text {
namespace {

using testing::ElementsAre;

std::vector<std::string> pieces(const std::string& json, const std::string& text) {
  const auto parsed = TokenizerJson::parse(json);
  Document document;
  document.reset(text, true);
  pre_tokenize(parse_pre_tokenizer(JsonNode(parsed, "t.json")), document);
  std::vector<std::string> out;
  for (const Piece& piece : document.pieces) out.emplace_back(document.view(piece));
  return out;
}

std::vector<std::string> split(const std::string& behavior, bool invert) {
  return pieces(R"({"type":"Split","pattern":{"String":"-"},"behavior":")" + behavior +
                    R"(","invert":)" + (invert ? "true}" : "false}"),
                "-a--b-c");
}

TEST(Split, EveryBehavior) {
  EXPECT_THAT(split("Removed", false), ElementsAre("a", "b", "c"));
  EXPECT_THAT(split("Isolated", false), ElementsAre("-", "a", "-", "-", "b", "-", "c"));
  EXPECT_THAT(split("MergedWithPrevious", false), ElementsAre("-", "a-", "-", "b-", "c"));
  EXPECT_THAT(split("MergedWithNext", false), ElementsAre("-a", "-", "-b", "-c"));
  EXPECT_THAT(split("Contiguous", false), ElementsAre("-", "a", "--", "b", "-", "c"));
}

TEST(Split, EveryBehaviorInverted) {
  EXPECT_THAT(split("Removed", true), ElementsAre("-", "-", "-", "-"));
  EXPECT_THAT(split("Isolated", true), ElementsAre("-", "a", "-", "-", "b", "-", "c"));
  EXPECT_THAT(split("MergedWithPrevious", true), ElementsAre("-a", "-", "-b", "-c"));
  EXPECT_THAT(split("MergedWithNext", true), ElementsAre("-", "a-", "-", "b-", "c"));
}

std::vector<std::string> matches(const std::string& source, const std::string& text) {
  const TokenizerJson none;
  std::vector<Stretch> stretches;
  Pattern::regex(source, JsonNode(none, "t.json")).stretches(text, stretches);
  std::vector<std::string> out;
  for (const Stretch& stretch : stretches) {
    if (stretch.is_match) out.push_back(text.substr(stretch.span.begin, stretch.span.size()));
  }
  return out;
}

TEST(Pattern, FollowsTheDialect) {
  EXPECT_THAT(matches("\\d{1,2}+", "12345"), ElementsAre("12345")) << "not possessive";
  EXPECT_THAT(matches("(?i:'s)", "'S'\xC5\xBF"), ElementsAre("'S", "'\xC5\xBF"));
  EXPECT_THAT(matches("b$", "b\nb"), ElementsAre("b", "b")) << "$ at line ends";
  EXPECT_THAT(matches("x*", "ax"), ElementsAre("", "x"));
  EXPECT_THAT(matches("[\\p{L}&&[^\\p{Han}]]+",
                      "a\xE4\xB8\xAD"
                      "b"),
              ElementsAre("a", "b"));
}

TEST(Pattern, ClassesAreThoseOfUnicode16) {
  const std::string garay = "\xF0\x90\xB5\x80";  // U+10D40, a digit since Unicode 16
  EXPECT_THAT(matches("\\p{N}", garay), ElementsAre(garay));
  EXPECT_THAT(matches("[\\p{Nd}x]", garay), ElementsAre(garay));
  EXPECT_THAT(matches("\\d", garay), ElementsAre(garay));
  EXPECT_TRUE(matches("\\P{N}", garay).empty());
  EXPECT_TRUE(matches("[^\\p{N}]", garay).empty());
  EXPECT_THAT(matches("\\w", "\xC2\xB2"), ElementsAre("\xC2\xB2"));
}

std::string normalise(const std::string& json, const std::string& text) {
  const auto parsed = TokenizerJson::parse(json);
  return normalized(parse_normalizer(JsonNode(parsed, "t.json")), text);
}

TEST(Normalizer, Forms) {
  EXPECT_EQ(normalise(R"({"type":"NFC"})", "e\xCC\x81\xE1\x84\x80\xE1\x85\xA1"),
            "\xC3\xA9\xEA\xB0\x80");
  EXPECT_EQ(normalise(R"({"type":"NFD"})", "\xC3\xA9"), "e\xCC\x81");
  EXPECT_EQ(normalise(R"({"type":"NFKC"})", "\xEF\xAC\x81"), "fi");
  EXPECT_EQ(normalise(R"({"type":"NFD"})", "a\xCC\x81\xCC\xA7"), "a\xCC\xA7\xCC\x81") << "order";
  const std::string young = "\xF0\x91\x84\xB1\xF0\x91\x84\xA7";  // Chakma, composes since 6.1
  EXPECT_EQ(normalise(R"({"type":"NFC"})", young), "\xF0\x91\x84\xAE");
}

TEST(Normalizer, ReplacePrependStrip) {
  EXPECT_EQ(normalise(R"({"type":"Replace","pattern":{"Regex":"a+"},"content":"b"})", "aaxa"),
            "bxb");
  EXPECT_EQ(normalise(R"({"type":"Replace","pattern":{"String":"."},"content":"!"})", "a."), "a!");
  EXPECT_EQ(normalise(R"({"type":"Prepend","prepend":"_"})", "a"), "_a");
  EXPECT_EQ(normalise(R"({"type":"Prepend","prepend":"_"})", ""), "");
  EXPECT_EQ(normalise(R"({"type":"Strip","strip_left":true,"strip_right":true})", " a \t"), "a");
  EXPECT_EQ(
      normalise(R"({"type":"Strip","strip_left":true,"strip_right":true})", " \xE6\x97\xA5 \t"),
      "\xE6\x97\xA5");
  EXPECT_EQ(normalise(R"({"type":"Lowercase"})", "\xC4\xB0\xCE\xA3"), "i\xCC\x87\xCF\x83");
}

std::string decoded(const std::string& json, std::vector<std::string> tokens) {
  const auto parsed = TokenizerJson::parse(json);
  return decode_tokens(parse_decoder(JsonNode(parsed, "t.json")), std::move(tokens));
}

TEST(Decoder, EveryKind) {
  EXPECT_EQ(decode_tokens({}, {"a", "b"}), "a b");
  EXPECT_EQ(decoded(R"({"type":"Sequence","decoders":[]})", {"a", "b"}), "ab");
  EXPECT_EQ(decoded(R"({"type":"ByteFallback"})", {"<0xC3>", "<0xA9>", "x", "<0xff>"}),
            "\xC3\xA9x\xEF\xBF\xBD");
  EXPECT_EQ(decoded(R"({"type":"Strip","content":" ","start":1,"stop":1})", {"  a ", " "}), " a");
  EXPECT_EQ(decoded(R"({"type":"Metaspace","replacement":"_"})", {"_a_", "_b"}), "a b");
  EXPECT_EQ(decoded(R"({"type":"WordPiece","prefix":"##","cleanup":true})", {"a", "##b", "."}),
            "ab.");
  EXPECT_EQ(decoded(R"({"type":"BPEDecoder","suffix":"</w>"})", {"a</w>", "b</w>"}), "a b");
  EXPECT_EQ(decoded(R"({"type":"CTC","pad_token":"_","word_delimiter_token":"|","cleanup":true})",
                    {"a", "a", "_", "a", "|", "b"}),
            "aa b");
  EXPECT_EQ(
      decoded(R"({"type":"ByteLevel","add_prefix_space":true,"trim_offsets":true})", {"\xC4\xA0"
                                                                                      "a",
                                                                                      "\xC3\xA9!"}),
      " a\xEF\xBF\xBD!");
}

}  // namespace
}  // namespace headway::text
