// Repair and streaming over random bytes: always UTF-8, idempotent, independent of how bytes
// arrive. Not for: the exact number of replacements (tests/unit/text).
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include "headway/base/text_util.h"
#include "headway/text/byte_tokenizer.h"
#include "headway/text/utf8.h"

namespace headway::text {
namespace {

// Bytes that often begin, continue or break characters.
rc::Gen<std::string> bytes_near_utf8() {
  const auto byte = rc::gen::oneOf(
      rc::gen::arbitrary<char>(), rc::gen::element('a', '\x80', '\xBF', '\xC2', '\xE0', '\xED',
                                                   '\xA0', '\xF0', '\x90', '\xF4', '\x8F', '\xFF'));
  return rc::gen::container<std::string>(byte);
}

RC_GTEST_PROP(Utf8Property, RepairGivesUtf8AndIsIdempotent, ()) {
  const std::string bytes = *bytes_near_utf8();
  const std::string repaired = repair_utf8(bytes);
  RC_ASSERT(!find_invalid_utf8(repaired).has_value());
  RC_ASSERT(repair_utf8(repaired) == repaired);
  RC_ASSERT((repaired == bytes) == !find_invalid_utf8(bytes).has_value());
}

RC_GTEST_PROP(Utf8Property, StreamEqualsWhole, ()) {
  const std::string bytes = *bytes_near_utf8();
  Utf8Stream stream;
  std::string streamed;
  for (std::size_t position = 0; position < bytes.size();) {
    const auto length = *rc::gen::inRange<std::size_t>(1, bytes.size() - position + 1);
    const std::string piece = stream.push(std::string_view(bytes).substr(position, length));
    RC_ASSERT(!find_invalid_utf8(piece).has_value());
    streamed += piece;
    position += length;
  }
  RC_ASSERT(streamed + stream.finish() == repair_utf8(bytes));
}

RC_GTEST_PROP(Utf8Property, SuffixIsWhatMakesAPrefixInvalid, ()) {
  const std::string text = repair_utf8(*bytes_near_utf8());
  const auto cut = *rc::gen::inRange<std::size_t>(0, text.size() + 1);
  const std::string_view prefix = std::string_view(text).substr(0, cut);
  const std::size_t suffix = incomplete_utf8_suffix(prefix);
  RC_ASSERT(!find_invalid_utf8(prefix.substr(0, cut - suffix)).has_value());
  RC_ASSERT((suffix == 0) == !find_invalid_utf8(prefix).has_value());
}

RC_GTEST_PROP(ByteTokenizerProperty, DecodingAndStreamingAgree, ()) {
  const auto ids =
      *rc::gen::container<std::vector<std::int64_t>>(rc::gen::inRange<std::int64_t>(-2, 258));
  const ByteTokenizer tokenizer;
  const auto decoder = tokenizer.stream_decoder(false);
  std::string streamed;
  for (const std::int64_t id : ids) streamed += decoder->push(id);
  RC_ASSERT(streamed + decoder->finish() == tokenizer.decode(ids, false));
}

RC_GTEST_PROP(ByteTokenizerProperty, EncodingInPiecesEqualsWhole, ()) {
  const std::string bytes = *bytes_near_utf8();
  const auto cut = *rc::gen::inRange<std::size_t>(0, bytes.size() + 1);
  const ByteTokenizer tokenizer;
  auto ids = tokenizer.encode(bytes.substr(0, cut), false);
  const auto rest = tokenizer.encode(bytes.substr(cut), false);
  ids.insert(ids.end(), rest.begin(), rest.end());
  RC_ASSERT(ids == tokenizer.encode(bytes, false));
  RC_ASSERT(tokenizer.decode_bytes(ids, true) == bytes);
}

}  // namespace
}  // namespace headway::text
