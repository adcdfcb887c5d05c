// SHA-256 of bytes in memory: names that other programs must arrive at too.
// Not for: cache keys of our own (content_hash.h is faster).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

namespace headway {

using Sha256Digest = std::array<std::uint8_t, 32>;

/// Source: FIPS 180-4, section 6.2. Test: tests/unit/base/sha256_test.cpp
Sha256Digest sha256(std::span<const std::byte> bytes);

}  // namespace headway
