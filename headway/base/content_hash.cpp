// Two 64-bit lanes, each step a bijection of the state, so that no block can be forgotten.
// Not for: hash tables.
#include "headway/base/content_hash.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include <fmt/format.h>

namespace headway {
namespace {

constexpr std::uint64_t kOdd0 = 0x9E3779B97F4A7C15u;
constexpr std::uint64_t kOdd1 = 0xD1B54A32D192ED03u;
constexpr std::uint64_t kOdd2 = 0xAEF17502108EF2D9u;
constexpr std::uint64_t kOdd3 = 0xF1357AEA2E62A9C5u;

std::uint64_t load_little_endian(const std::byte* from) {
  static_assert(std::endian::native == std::endian::little, "hashes are kept in files");
  std::uint64_t word;
  std::memcpy(&word, from, sizeof(word));
  return word;
}

void mix_block(ContentHash::Value& state, const std::byte* block) {
  auto& [a, b] = state;
  a = std::rotl(a ^ (load_little_endian(block) * kOdd0), 29) * kOdd1 + b;
  b = std::rotl(b ^ (load_little_endian(block + 8) * kOdd2), 31) * kOdd3 + a;
}

std::uint64_t avalanche(std::uint64_t x) {
  x = (x ^ (x >> 32)) * kOdd1;
  x = (x ^ (x >> 29)) * kOdd3;
  return x ^ (x >> 32);
}

}  // namespace

ContentHash& ContentHash::update(std::span<const std::byte> bytes) {
  std::size_t filled = length_ % kBlock;
  length_ += bytes.size();
  if (filled > 0) {
    const std::size_t taken = std::min(kBlock - filled, bytes.size());
    std::copy_n(bytes.begin(), taken, tail_.begin() + static_cast<std::ptrdiff_t>(filled));
    bytes = bytes.subspan(taken);
    if (filled + taken < kBlock) return *this;
    mix_block(state_, tail_.data());
  }
  for (; bytes.size() >= kBlock; bytes = bytes.subspan(kBlock)) mix_block(state_, bytes.data());
  std::copy(bytes.begin(), bytes.end(), tail_.begin());
  return *this;
}

ContentHash& ContentHash::update(std::string_view text) {
  return update(std::as_bytes(std::span(text)));
}

ContentHash& ContentHash::field(std::string_view text) { return field(text.size()).update(text); }

ContentHash& ContentHash::field(std::uint64_t number) {
  return update(std::as_bytes(std::span(&number, 1)));
}

ContentHash::Value ContentHash::value() const {
  Value state = state_;
  auto last = tail_;
  std::fill(last.begin() + static_cast<std::ptrdiff_t>(length_ % kBlock), last.end(), std::byte{0});
  mix_block(state, last.data());
  state[0] ^= length_;
  for (int round = 0; round < 2; ++round) {
    state[0] = avalanche(state[0] + state[1]);
    state[1] = avalanche(state[1] + state[0]);
  }
  return state;
}

std::string ContentHash::hex() const {
  const Value result = value();
  return fmt::format("{:016x}{:016x}", result[0], result[1]);
}

}  // namespace headway
