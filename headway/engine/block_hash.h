// Names of blocks of prompt tokens, by which equal prefixes find each other.
// Not for: storage (block_pool.h).
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace headway::engine {

/// One key for every complete block of `tokens`; a key depends on all tokens up to the block's end.
///   digest_0 = 32 zero bytes; digest_k = SHA-256(digest_{k-1} ‖ tokens of block k, little-endian
///   int64); key = (first 8 bytes, little-endian, mod 2^63-1) + 1
/// Source: Megatron-Core, dynamic inference block hashes. Test:
/// tests/unit/engine/block_pool_test.cpp
std::vector<uint64_t> block_hashes(std::span<const int64_t> tokens, int64_t block_size);

}  // namespace headway::engine
