// UTF-8 steps shared by repair and streaming.
// Not for: conversion to code points.
#include "headway/text/utf8.h"

#include <cstdint>
#include <cstring>

namespace headway::text {
namespace {

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";

// Total length announced by a first byte (0: no character starts so) and the allowed second byte.
struct LeadByte {
  std::size_t length;
  unsigned char second_low = 0x80;
  unsigned char second_high = 0xBF;
};

LeadByte lead_byte(unsigned char byte) {
  if (byte < 0x80) return {1};
  if (byte < 0xC2) return {0};
  if (byte < 0xE0) return {2};
  if (byte == 0xE0) return {3, 0xA0, 0xBF};
  if (byte == 0xED) return {3, 0x80, 0x9F};
  if (byte < 0xF0) return {3};
  if (byte == 0xF0) return {4, 0x90, 0xBF};
  if (byte < 0xF4) return {4};
  if (byte == 0xF4) return {4, 0x80, 0x8F};
  return {0};
}

// First position >= `position` that may hold a byte above 0x7F.
std::size_t skip_ascii(std::string_view bytes, std::size_t position) {
  constexpr std::uint64_t kHighBits = 0x8080808080808080u;
  while (bytes.size() - position >= sizeof(std::uint64_t)) {
    std::uint64_t word;
    std::memcpy(&word, bytes.data() + position, sizeof(word));
    if (word & kHighBits) break;
    position += sizeof(word);
  }
  return position;
}

// Appends the repaired form of `bytes` to `out`; returns how many bytes at the end are incomplete.
std::size_t repair_into(std::string_view bytes, std::string& out) {
  std::size_t position = 0;
  while (position < bytes.size()) {
    const std::size_t plain = skip_ascii(bytes, position);
    out.append(bytes, position, plain - position);
    position = plain;
    if (position == bytes.size()) break;
    const Utf8Step step = utf8_step(bytes, position);
    if (step.kind == Utf8Kind::kIncomplete) return step.length;
    if (step.kind == Utf8Kind::kValid) {
      out.append(bytes, position, step.length);
    } else {
      out += kReplacement;
    }
    position += step.length;
  }
  return 0;
}

}  // namespace

Utf8Step utf8_step(std::string_view bytes, std::size_t position) {
  const LeadByte lead = lead_byte(static_cast<unsigned char>(bytes[position]));
  if (lead.length == 0) return {Utf8Kind::kInvalid, 1};
  for (std::size_t i = 1; i < lead.length; ++i) {
    if (position + i >= bytes.size()) return {Utf8Kind::kIncomplete, i};
    const auto byte = static_cast<unsigned char>(bytes[position + i]);
    const unsigned char low = i == 1 ? lead.second_low : 0x80;
    const unsigned char high = i == 1 ? lead.second_high : 0xBF;
    if (byte < low || byte > high) return {Utf8Kind::kInvalid, i};
  }
  return {Utf8Kind::kValid, lead.length};
}

std::size_t incomplete_utf8_suffix(std::string_view bytes) {
  for (std::size_t back = 1; back <= 3 && back <= bytes.size(); ++back) {
    const std::size_t position = bytes.size() - back;
    if (lead_byte(static_cast<unsigned char>(bytes[position])).length < 2) continue;
    return utf8_step(bytes, position).kind == Utf8Kind::kIncomplete ? back : 0;
  }
  return 0;
}

std::string repair_utf8(std::string_view bytes) {
  std::string out;
  out.reserve(bytes.size());
  if (repair_into(bytes, out) > 0) out += kReplacement;
  return out;
}

std::string Utf8Stream::push(std::string_view bytes) {
  pending_ += bytes;
  std::string out;
  const std::size_t kept = repair_into(pending_, out);
  pending_.erase(0, pending_.size() - kept);
  return out;
}

std::string Utf8Stream::finish() {
  const bool unfinished = !pending_.empty();
  pending_.clear();
  return unfinished ? std::string(kReplacement) : std::string();
}

}  // namespace headway::text
