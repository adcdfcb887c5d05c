// The stream that dropout draws from: 31 bits for every (key, row, column), by counter.
// Not for: random numbers with a state (initialisation, sampling).
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

namespace headway::ops::internal {

/// splitmix64's finaliser: every bit of the result depends on every bit of `x`.
inline uint64_t mix64(uint64_t x) {
  x += 0x9E3779B97F4A7C15u;
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
  return x ^ (x >> 31);
}

/// Two words that stand for one row (a query of a head).
struct DropoutRow {
  uint32_t low;
  uint32_t high;
};

inline DropoutRow dropout_row(uint64_t key, uint64_t head, uint64_t token) {
  const uint64_t row = mix64(mix64(mix64(key) + head) + token);
  return {static_cast<uint32_t>(row), static_cast<uint32_t>(row >> 32)};
}

// Steps of dropout_bits, which the SIMD kernels repeat on lanes.
constexpr uint32_t kDropoutStep = 0x9E3779B1u;
constexpr uint32_t kDropoutFirst = 0x21F0AAADu;
constexpr uint32_t kDropoutSecond = 0x735A2D97u;

/// 31 uniform bits of entry `column` of a row.
inline uint32_t dropout_bits(DropoutRow row, uint32_t column) {
  uint32_t x = column * kDropoutStep + row.low;
  x = (x ^ (x >> 16)) * kDropoutFirst;
  x ^= row.high;
  x = (x ^ (x >> 15)) * kDropoutSecond;
  return (x ^ (x >> 15)) >> 1;
}

/// An entry is kept iff its bits are at least this: probability rounded to 2^-31, below 2^31.
inline uint32_t dropout_threshold(double probability) {
  constexpr double kLargest = 2147483647.0;
  return static_cast<uint32_t>(std::min(std::round(probability * 2147483648.0), kLargest));
}

/// What kept entries are multiplied by.
inline double dropout_factor(double probability) { return 1.0 / (1.0 - probability); }

}  // namespace headway::ops::internal
