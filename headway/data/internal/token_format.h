// Layout of a token file: header, tokens, padding to 8 bytes, table of document ends (uint64),
// table of learned spans (begin and end of each, uint64; none = all tokens are learned).
// Not for: code outside headway/data and its tests; the layout may change with kVersion.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

#include "headway/base/content_hash.h"

namespace headway::data::internal {

static_assert(std::endian::native == std::endian::little, "token files are little-endian");

inline constexpr char kMagic[8] = {'H', 'W', 'T', 'O', 'K', 'E', 'N', 'S'};
inline constexpr std::uint32_t kVersion = 1;
inline constexpr std::int64_t kMaxVocabSize = std::int64_t{1} << 32;

struct Header {
  char magic[8];
  std::uint32_t version;
  std::uint32_t bytes_per_token;  // 2 or 4
  std::uint64_t token_count;
  std::uint64_t document_count;
  std::uint64_t vocab_size;
  ContentHash::Value content;    // of the sources and everything else the tokens depend on
  ContentHash::Value tokenizer;  // of the tokenizer's fingerprint
  ContentHash::Value payload;    // of everything after the header
  ContentHash::Value header;     // of the fields above
  std::uint64_t learned_count;   // entries of the table of learned spans; the size of the file and
                                 // the payload's hash vouch for it
  std::uint64_t reserved[2];     // zero
};
static_assert(sizeof(Header) == 128);

inline constexpr std::int64_t kHeaderBytes = sizeof(Header);

inline ContentHash::Value header_hash(const Header& header) {
  const auto bytes = std::as_bytes(std::span(&header, 1));
  return ContentHash().update(bytes.first(offsetof(Header, header))).value();
}

inline std::uint32_t bytes_per_token(std::int64_t vocab_size) {
  return vocab_size <= (std::int64_t{1} << 16) ? 2 : 4;
}

inline std::int64_t padding(std::int64_t token_bytes) { return -token_bytes & 7; }

}  // namespace headway::data::internal
