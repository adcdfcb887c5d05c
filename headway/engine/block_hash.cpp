// The chain of block digests. Not for: hash tables.
#include "headway/engine/block_hash.h"

#include <algorithm>

#include "headway/base/sha256.h"

namespace headway::engine {
namespace {

void put_little_endian(int64_t token, std::byte* to) {
  const auto bits = static_cast<uint64_t>(token);
  for (int i = 0; i < 8; ++i) to[i] = static_cast<std::byte>(bits >> (8 * i));
}

uint64_t key_of(const Sha256Digest& digest) {
  constexpr uint64_t kModulus = (uint64_t{1} << 63) - 1;
  uint64_t first = 0;
  for (int i = 7; i >= 0; --i) first = first << 8 | digest[i];
  return first % kModulus + 1;
}

}  // namespace

std::vector<uint64_t> block_hashes(std::span<const int64_t> tokens, int64_t block_size) {
  const size_t blocks = tokens.size() / static_cast<size_t>(block_size);
  std::vector<uint64_t> keys;
  std::vector<std::byte> message(32 + 8 * static_cast<size_t>(block_size));
  for (size_t k = 0; k < blocks; ++k) {
    for (size_t i = 0; i < static_cast<size_t>(block_size); ++i) {
      put_little_endian(tokens[k * static_cast<size_t>(block_size) + i], &message[32 + 8 * i]);
    }
    const Sha256Digest digest = sha256(message);
    std::transform(digest.begin(), digest.end(), message.begin(),
                   [](uint8_t byte) { return static_cast<std::byte>(byte); });
    keys.push_back(key_of(digest));
  }
  return keys;
}

}  // namespace headway::engine
