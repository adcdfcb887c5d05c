// Streaming 128-bit hash of content: cache keys, checksums, fingerprints.
// Not for: security. Collisions do not happen by chance but can be made on purpose.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace headway {

class ContentHash {
 public:
  using Value = std::array<std::uint64_t, 2>;

  ContentHash& update(std::span<const std::byte> bytes);
  ContentHash& update(std::string_view text);
  /// A length-prefixed field: "ab","c" and "a","bc" hash differently.
  ContentHash& field(std::string_view text);
  ContentHash& field(std::uint64_t number);

  /// Hash of everything so far; more may follow. Same bytes, same value, however they were cut.
  Value value() const;
  /// value() as 32 hexadecimal digits.
  std::string hex() const;

 private:
  static constexpr std::size_t kBlock = 16;

  Value state_{0x243F6A8885A308D3u, 0x13198A2E03707344u};
  std::array<std::byte, kBlock> tail_{};
  std::uint64_t length_ = 0;
};

}  // namespace headway
