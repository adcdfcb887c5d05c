// Tables of the byte alphabet in both directions.
// Not for: anything with more than one byte at a time but plain loops.
#include "headway/text/byte_alphabet.h"

#include <array>

#include "headway/text/unicode.h"

namespace headway::text {
namespace {

constexpr char32_t kFirstShifted = 0x100;
constexpr int kShifted = 68;

constexpr bool is_visible(int byte) {
  return (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
}

struct Alphabet {
  std::array<char32_t, 256> characters{};
  std::array<std::string, 256> spelled;
  std::array<std::int16_t, kFirstShifted + kShifted> bytes{};

  Alphabet() {
    bytes.fill(-1);
    char32_t next = kFirstShifted;
    for (int byte = 0; byte < 256; ++byte) {
      const char32_t character = is_visible(byte) ? static_cast<char32_t>(byte) : next++;
      const auto index = static_cast<std::size_t>(byte);
      characters[index] = character;
      spelled[index] = point_to_utf8(character);
      bytes[character] = static_cast<std::int16_t>(byte);
    }
  }
};

const Alphabet& alphabet() {
  static const Alphabet instance;
  return instance;
}

}  // namespace

char32_t byte_to_character(std::uint8_t byte) { return alphabet().characters[byte]; }

std::string_view byte_to_utf8(std::uint8_t byte) { return alphabet().spelled[byte]; }

std::optional<std::uint8_t> character_to_byte(char32_t character) {
  const auto& bytes = alphabet().bytes;
  if (character >= bytes.size() || bytes[character] < 0) return std::nullopt;
  return static_cast<std::uint8_t>(bytes[character]);
}

std::string to_byte_alphabet(std::string_view bytes) {
  std::string text;
  text.reserve(bytes.size() * 2);
  for (const char byte : bytes) text += byte_to_utf8(static_cast<std::uint8_t>(byte));
  return text;
}

std::optional<std::string> from_byte_alphabet(std::string_view text) {
  std::string bytes;
  bytes.reserve(text.size());
  for (std::size_t at = 0; at < text.size();) {
    const DecodedPoint decoded = decode_point(text, at);
    const auto byte = character_to_byte(decoded.point);
    if (!byte) return std::nullopt;
    bytes += static_cast<char>(*byte);
    at += decoded.length;
  }
  return bytes;
}

}  // namespace headway::text
