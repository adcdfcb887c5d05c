// Every hand-written scanner equals the regular expression engine on the same pattern, over random
// texts made of what the patterns tell apart.
// Not for: the published splits themselves (tests/golden/text).
#include <cctype>
#include <iterator>
#include <random>

#include <gtest/gtest.h>

#include "headway/text/split_scanner.h"
#include "headway/text/unicode.h"

namespace headway::text {
namespace {

constexpr int kTexts = 3000;

const char32_t kInteresting[] = {
    U'a',    U'z',   U'A',   U'Z',    U's',    U'S',    U't',     U'r',   U'e',   U'v',   U'm',
    U'l',    U'L',   U'd',   U'D',    U'E',    U'0',    U'7',     U'\'',  U'"',   U'.',   U'/',
    U'-',    U'_',   U'$',   U'+',    U'<',    U'|',    U' ',     U' ',   U'\t',  U'\n',  U'\r',
    U'\v',   0x00,   0x1B,   0x7F,    0x85,    0xA0,    0xAA,     0xB2,   0xBC,   0xC9,   0xE9,
    0x17F,   0x1C5,  0x212A, 0x2B0,   0x2BC,   0x300,   0x345,    0x3C3,  0x430,  0x416,  0x5D0,
    0x5B0,   0x627,  0x661,  0x64B,   0x905,   0x93E,   0x94D,    0x966,  0xE01,  0xE31,  0x1100,
    0x1161,  0xAC00, 0x180E, 0x2003,  0x200B,  0x200D,  0x2019,   0x2028, 0x2E80, 0x3000, 0x3001,
    0x3005,  0x3007, 0x3042, 0x30A2,  0x30FB,  0x4E00,  0x4E2D,   0x9FA5, 0x9FA6, 0xFE0F, 0xFEFF,
    0xFF10,  0xFF21, 0xFFFD, 0x1F600, 0x1D7CE, 0x20000, 0x10FFFF, 0xE000, 0x378,  0x1C89, 0x10D40,
    0x16FE4, 0x16FF0};

std::string random_text(std::mt19937_64& random) {
  std::string text;
  const auto length = 1 + random() % 24;
  char32_t last = U'a';
  for (std::uint64_t i = 0; i < length; ++i) {
    const auto kind = random() % 10;
    if (kind < 7) {
      last = kInteresting[random() % std::size(kInteresting)];
    } else if (kind == 7) {
      last = static_cast<char32_t>(random() % 0x3000);
    } else if (kind == 8) {
      last = static_cast<char32_t>(random() % kEndOfUnicode);
      if (last >= 0xD800 && last < 0xE000) last = U'x';
    }  // else: the same again
    append_point(text, last);
  }
  return text;
}

std::vector<std::string> shown(const std::string& text, const std::vector<Stretch>& stretches) {
  std::vector<std::string> parts;
  for (const Stretch& stretch : stretches) {
    parts.push_back((stretch.is_match ? "" : "no match: ") +
                    text.substr(stretch.span.begin, stretch.span.size()));
  }
  return parts;
}

class SplitScannerProperty : public testing::TestWithParam<KnownPattern> {};

TEST_P(SplitScannerProperty, EqualsTheRegularExpression) {
  const TokenizerJson none;
  const Pattern pattern =
      Pattern::regex(std::string(GetParam().pattern), JsonNode(none, "pattern"));
  std::mt19937_64 random(20240607);
  for (int i = 0; i < kTexts; ++i) {
    const std::string text = random_text(random);
    std::vector<Stretch> expected;
    std::vector<Stretch> got;
    pattern.stretches(text, expected);
    GetParam().scanner(text, got);
    ASSERT_EQ(shown(text, got), shown(text, expected)) << "text " << i << ": " << text;
  }
}

INSTANTIATE_TEST_SUITE_P(Known, SplitScannerProperty,
                         testing::ValuesIn(known_patterns().begin(), known_patterns().end()),
                         [](const auto& info) {
                           std::string name(info.param.name);
                           std::erase_if(name, [](char c) { return !std::isalnum(c); });
                           return name;
                         });

TEST(SplitScanner, OnlyExactPatternsHaveOne) {
  EXPECT_NE(find_scanner(kGpt2Pattern), nullptr);
  EXPECT_EQ(find_scanner(std::string(kGpt2Pattern) + "|x"), nullptr);
  EXPECT_EQ(find_scanner(""), nullptr);
}

}  // namespace
}  // namespace headway::text
