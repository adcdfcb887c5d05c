// A random order of 0 … n-1 that needs no memory: any place of it is computed alone.
// Not for: cryptography, or sampling with replacement.
#pragma once

#include <array>
#include <cstdint>

namespace headway::data {

/// A bijection of [0, size), different for every (seed, stream): a Feistel network over the next
/// power of four, walked until it lands inside. Same arguments, same order, on every machine.
/// Errors: InternalError for size < 1 or a place outside. Test:
/// tests/property/data/permutation_test.cpp
class Permutation {
 public:
  Permutation(std::int64_t size, std::uint64_t seed, std::uint64_t stream);

  std::int64_t size() const { return size_; }
  std::int64_t operator()(std::int64_t place) const;

 private:
  static constexpr int kRounds = 6;

  std::uint64_t encrypt(std::uint64_t value) const;

  std::int64_t size_;
  int half_bits_ = 1;
  std::array<std::uint64_t, kRounds> keys_{};
};

}  // namespace headway::data
