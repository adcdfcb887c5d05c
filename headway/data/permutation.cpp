// Feistel rounds with a 64-bit mixer as round function, and cycle walking.
// Not for: sizes above 2^62.
#include "headway/data/permutation.h"

#include <fmt/format.h>

#include "headway/base/error.h"

namespace headway::data {
namespace {

std::uint64_t mix(std::uint64_t x) {
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
  return x ^ (x >> 31);
}

}  // namespace

Permutation::Permutation(std::int64_t size, std::uint64_t seed, std::uint64_t stream)
    : size_(size) {
  if (size < 1 || size > (std::int64_t{1} << 62)) {
    throw InternalError(fmt::format("[permutation] size = {}, allowed 1 to 2^62", size));
  }
  while ((std::int64_t{1} << (2 * half_bits_)) < size) ++half_bits_;
  std::uint64_t state = mix(seed) ^ mix(stream + 0x632BE59BD9B4E019u);
  for (std::uint64_t& key : keys_) {
    state += 0x9E3779B97F4A7C15u;
    key = mix(state);
  }
}

std::uint64_t Permutation::encrypt(std::uint64_t value) const {
  const std::uint64_t mask = (std::uint64_t{1} << half_bits_) - 1;
  std::uint64_t left = value >> half_bits_;
  std::uint64_t right = value & mask;
  for (const std::uint64_t key : keys_) {
    const std::uint64_t next = left ^ (mix(right ^ key) & mask);
    left = right;
    right = next;
  }
  return (left << half_bits_) | right;
}

std::int64_t Permutation::operator()(std::int64_t place) const {
  if (place < 0 || place >= size_) {
    throw InternalError(fmt::format("[permutation] place = {}, allowed 0 to {}", place, size_ - 1));
  }
  // The network permutes the next power of four; following a cycle from inside the range must come
  // back inside, and does so after fewer than four steps on average.
  auto value = static_cast<std::uint64_t>(place);
  do {
    value = encrypt(value);
  } while (value >= static_cast<std::uint64_t>(size_));
  return static_cast<std::int64_t>(value);
}

}  // namespace headway::data
