// Text helpers: UTF-8 boundaries, nearest names, numbers for people.
#include "headway/base/text_util.h"

#include <gtest/gtest.h>

namespace headway {
namespace {

TEST(Utf8, AcceptsEveryLengthAndBoundary) {
  EXPECT_EQ(find_invalid_utf8(""), std::nullopt);
  EXPECT_EQ(find_invalid_utf8("plain"), std::nullopt);
  EXPECT_EQ(find_invalid_utf8(
                "\xC2\x80 \xDF\xBF \xE0\xA0\x80 \xED\x9F\xBF \xF0\x90\x80\x80 \xF4\x8F\xBF\xBF"),
            std::nullopt);
}

TEST(Utf8, FindsTheFirstBadByte) {
  EXPECT_EQ(find_invalid_utf8("ab\xFFz"), 2u);
  EXPECT_EQ(find_invalid_utf8("\xC0\x80"), 0u);          // overlong
  EXPECT_EQ(find_invalid_utf8("a\xE0\x9F\x80"), 1u);     // overlong
  EXPECT_EQ(find_invalid_utf8("a\xED\xA0\x80"), 1u);     // surrogate
  EXPECT_EQ(find_invalid_utf8("\xF4\x90\x80\x80"), 0u);  // beyond U+10FFFF
  EXPECT_EQ(find_invalid_utf8("ok\xE2\x82"), 2u);        // cut off
}

TEST(Utf8, ReplacesLikeDecodersDo) {
  const std::string kMark = "\xEF\xBF\xBD";
  EXPECT_EQ(replace_invalid_utf8("a\xFF\xFFz"), "a" + kMark + kMark + "z");
  EXPECT_EQ(replace_invalid_utf8("a\xE2\x82z"), "a" + kMark + "z");
  EXPECT_EQ(replace_invalid_utf8("\xF0\x9F\x98"), kMark);
  EXPECT_EQ(replace_invalid_utf8("\xC3\xA9"), "\xC3\xA9");
}

TEST(EditDistance, CountsEditsAndSwaps) {
  EXPECT_EQ(edit_distance("", "abc"), 3u);
  EXPECT_EQ(edit_distance("kitten", "sitting"), 3u);
  EXPECT_EQ(edit_distance("hidden_szie", "hidden_size"), 1u);
}

TEST(NearestName, OffersOnlyWhatWasLikelyMeant) {
  const std::vector<std::string> names = {"num_heads", "num_kv_heads", "window"};
  EXPECT_EQ(nearest_name("num_head", names), "num_heads");
  EXPECT_EQ(nearest_name("windwo", names), "window");
  EXPECT_EQ(nearest_name("zebra", names), std::nullopt);
  EXPECT_EQ(nearest_name(std::string(1000, 'x'), names), std::nullopt);
}

TEST(Numbers, ReadableForms) {
  EXPECT_EQ(format_count(0), "0");
  EXPECT_EQ(format_count(-1234567), "-1,234,567");
  EXPECT_EQ(format_count(123), "123");
  EXPECT_EQ(format_double(0.1), "0.1");
  EXPECT_EQ(format_double(5e6), "5e+06");
  EXPECT_EQ(format_bytes(1023), "1023 B");
  EXPECT_EQ(format_bytes(1536), "1.50 KiB");
}

TEST(Text, SplitJoinTrimShorten) {
  EXPECT_EQ(split("a.b..c", '.'), (std::vector<std::string>{"a", "b", "", "c"}));
  EXPECT_EQ(join({"a", "b"}, " | "), "a | b");
  EXPECT_EQ(trim(" \t x y\n"), "x y");
  EXPECT_EQ(trim("  "), "");
  EXPECT_EQ(shorten("abcdef", 3), "abc…");
  EXPECT_EQ(shorten("a\nb"), "a\\x0Ab");
  EXPECT_EQ(printable(std::string("\0\x1B[2J\x7F é", 9)), "\\x00\\x1B[2J\\x7F é");
  EXPECT_EQ(shorten("a\xC3\xA9z", 2), "a…");  // never cuts a character in two
}

}  // namespace
}  // namespace headway
