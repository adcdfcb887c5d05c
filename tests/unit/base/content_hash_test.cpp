// The content hash: independent of how bytes arrive, sensitive to every bit, stable over versions.
// Not for: speed.
#include "headway/base/content_hash.h"

#include <set>

#include <gtest/gtest.h>

namespace headway {
namespace {

std::string sample(std::size_t size) {
  std::string bytes;
  for (std::size_t i = 0; i < size; ++i) bytes += static_cast<char>(i * 37 + i / 7);
  return bytes;
}

TEST(ContentHash, AnyCutGivesTheSameValue) {
  const std::string bytes = sample(100);
  const auto whole = ContentHash().update(bytes).value();
  for (std::size_t i = 0; i <= bytes.size(); ++i) {
    for (std::size_t j = i; j <= bytes.size(); j += 7) {
      ContentHash hash;
      hash.update(bytes.substr(0, i)).update(bytes.substr(i, j - i)).update(bytes.substr(j));
      ASSERT_EQ(hash.value(), whole) << i << " " << j;
    }
  }
}

TEST(ContentHash, EveryBitAndLengthMatters) {
  std::string bytes = sample(40);
  std::set<std::string> seen{ContentHash().update(bytes).hex()};
  for (char& byte : bytes) {
    for (int bit = 0; bit < 8; ++bit) {
      byte = static_cast<char>(byte ^ (1 << bit));
      seen.insert(ContentHash().update(bytes).hex());
      byte = static_cast<char>(byte ^ (1 << bit));
    }
  }
  EXPECT_EQ(seen.size(), 1 + 40 * 8u);
  std::set<std::string> zeros;
  for (std::size_t size = 0; size < 64; ++size) {
    zeros.insert(ContentHash().update(std::string(size, '\0')).hex());
  }
  EXPECT_EQ(zeros.size(), 64u);
}

TEST(ContentHash, FieldsKeepTheirBorders) {
  EXPECT_NE(ContentHash().field("ab").field("c").value(),
            ContentHash().field("a").field("bc").value());
  EXPECT_EQ(ContentHash().update("ab").update("c").value(), ContentHash().update("abc").value());
}

TEST(ContentHash, ValueMayBeTakenInBetween) {
  ContentHash hash;
  hash.update("some").value();
  EXPECT_EQ(hash.update("thing").value(), ContentHash().update("something").value());
}

TEST(ContentHash, FilesOfEarlierVersionsStayValid) {
  EXPECT_EQ(ContentHash().hex(), "9e954ae48ed6aabd632a6b1a0ff7af18");
  EXPECT_EQ(ContentHash().update("The quick brown fox jumps over the lazy dog").hex(),
            "91b3d6cdd620a5ac6658b372eb2690a4");
}

}  // namespace
}  // namespace headway
