// The byte tokenizer: identity on bytes, offsets in code points, streaming, ids it does not have.
// Not for: finding tokenizers (tokenizer_factory_test.cpp).
#include "headway/text/byte_tokenizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace headway::text {
namespace {

using testing::ElementsAre;

TEST(ByteTokenizer, IdsAreByteValues) {
  const ByteTokenizer tokenizer;
  EXPECT_THAT(tokenizer.encode("A\xC3\xA9\xFF", true), ElementsAre(65, 195, 169, 255));
  EXPECT_EQ(tokenizer.vocab_size(), 256);
  EXPECT_EQ(tokenizer.bos_id(), std::nullopt);
  EXPECT_EQ(tokenizer.eos_id(), std::nullopt);
}

TEST(ByteTokenizer, EveryByteRoundTrips) {
  const ByteTokenizer tokenizer;
  std::string bytes;
  for (int byte = 0; byte < 256; ++byte) bytes += static_cast<char>(byte);
  const auto ids = tokenizer.encode(bytes, false);
  EXPECT_EQ(tokenizer.decode_bytes(ids, true), bytes);
  for (std::int64_t id = 0; id < 256; ++id) {
    EXPECT_EQ(tokenizer.token_to_id(tokenizer.id_to_token(id).value()), id);
  }
}

TEST(ByteTokenizer, UnknownIdsAndTokensGiveNothing) {
  const ByteTokenizer tokenizer;
  EXPECT_EQ(tokenizer.decode(std::vector<std::int64_t>{-1, 72, 256, 105, 100000}, false), "Hi");
  EXPECT_EQ(tokenizer.id_to_token(256), std::nullopt);
  EXPECT_EQ(tokenizer.token_to_id("<0x100>"), std::nullopt);
}

TEST(ByteTokenizer, DecodeReplacesWhatIsNotUtf8) {
  const ByteTokenizer tokenizer;
  EXPECT_EQ(tokenizer.decode(std::vector<std::int64_t>{65, 0xE2, 0x82, 66, 0xFF}, false),
            "A\xEF\xBF\xBD"
            "B\xEF\xBF\xBD");
}

TEST(ByteTokenizer, OffsetsCountCodePoints) {
  const auto encoding = ByteTokenizer().encode_with_offsets(
      "a\xE2\x82\xAC"
      "b",
      false);
  EXPECT_EQ(encoding.ids.size(), 5u);
  EXPECT_THAT(encoding.offsets,
              ElementsAre(Offset{0, 1}, Offset{1, 2}, Offset{1, 2}, Offset{1, 2}, Offset{2, 3}));
}

TEST(ByteTokenizer, StreamEmitsWholeCharacters) {
  const auto decoder = ByteTokenizer().stream_decoder(true);
  std::vector<std::string> pieces;
  for (const std::int64_t id : {0x68, 0xC3, 0xA9, 300, 0xE2, 0x41}) {
    pieces.push_back(decoder->push(id));
  }
  EXPECT_THAT(pieces, ElementsAre("h", "", "\xC3\xA9", "", "",
                                  "\xEF\xBF\xBD"
                                  "A"));
  EXPECT_EQ(decoder->finish(), "");
}

}  // namespace
}  // namespace headway::text
