// UTF-8 steps, repair and streaming repair on the cases where decoders differ.
// Not for: random strings (tests/property/text).
#include "headway/text/utf8.h"

#include <gtest/gtest.h>

namespace headway::text {
namespace {

const std::string kBad = "\xEF\xBF\xBD";

TEST(RepairUtf8, KeepsWellFormedText) {
  const std::string text =
      "plain \xC3\xA9 \xE2\x82\xAC \xF0\x9F\x98\x80 \xEF\xBF\xBF \xF4\x8F\xBF\xBF";
  EXPECT_EQ(repair_utf8(text), text);
  EXPECT_EQ(repair_utf8(""), "");
  EXPECT_EQ(repair_utf8(std::string("a\0b", 3)), std::string("a\0b", 3));
}

TEST(RepairUtf8, OneReplacementPerMaximalSubpart) {
  // The Unicode Standard, section 3.9, tables 3-8 to 3-11.
  const auto repeat = [](int count) {
    std::string text;
    for (int i = 0; i < count; ++i) text += kBad;
    return text;
  };
  EXPECT_EQ(repair_utf8("\xC0\xAF\xE0\x80\xBF\xF0\x81\x82\x41"), repeat(8) + "A");
  EXPECT_EQ(repair_utf8("\xED\xA0\x80\xED\xBF\xBF\xED\xAF\x41"), repeat(8) + "A");
  EXPECT_EQ(repair_utf8("\xF4\x91\x92\x93\xFF\x41\x80\xBF\x42"), repeat(5) + "A" + repeat(2) + "B");
  EXPECT_EQ(repair_utf8("\xE1\x80\xE2\xF0\x91\x92\xF1\xBF\x41"), repeat(4) + "A");
}

TEST(RepairUtf8, IncompleteEndIsOneReplacement) {
  EXPECT_EQ(repair_utf8("ab\xF0\x9F\x98"), "ab" + kBad);
  EXPECT_EQ(repair_utf8("ab\xC3"), "ab" + kBad);
}

TEST(IncompleteUtf8Suffix, CountsOnlyUnfinishedSequences) {
  EXPECT_EQ(incomplete_utf8_suffix("abc"), 0u);
  EXPECT_EQ(incomplete_utf8_suffix(""), 0u);
  EXPECT_EQ(incomplete_utf8_suffix("a\xC3"), 1u);
  EXPECT_EQ(incomplete_utf8_suffix("a\xC3\xA9"), 0u);
  EXPECT_EQ(incomplete_utf8_suffix("\xF0\x9F\x98"), 3u);
  EXPECT_EQ(incomplete_utf8_suffix("\xF0\x9F\x98\x80"), 0u);
  EXPECT_EQ(incomplete_utf8_suffix("\xE0\x80"), 0u) << "already ill-formed";
  EXPECT_EQ(incomplete_utf8_suffix("\x80\x80\x80"), 0u);
}

TEST(Utf8Stream, HoldsBackUnfinishedCharacters) {
  Utf8Stream stream;
  EXPECT_EQ(stream.push("a\xF0"), "a");
  EXPECT_EQ(stream.push("\x9F\x98"), "");
  EXPECT_EQ(stream.push("\x80z"), "\xF0\x9F\x98\x80z");
  EXPECT_EQ(stream.finish(), "");
}

TEST(Utf8Stream, GivesUpOnBrokenCharacters) {
  Utf8Stream stream;
  EXPECT_EQ(stream.push("\xF0\x9F"), "");
  EXPECT_EQ(stream.push("A"), kBad + "A");
  EXPECT_EQ(stream.push("\xC3"), "");
  EXPECT_EQ(stream.finish(), kBad);
  EXPECT_EQ(stream.finish(), "") << "finish starts anew";
}

}  // namespace
}  // namespace headway::text
