// The 256 visible characters that byte-level tokenizers write instead of bytes.
// Not for: splitting text or decoding (pre_tokenizer.h, decoder.h).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace headway::text {

/// Bytes 33-126, 161-172 and 174-255 stand for themselves; the other 68, in order, for U+0100 on.
char32_t byte_to_character(std::uint8_t byte);
/// UTF-8 of byte_to_character.
std::string_view byte_to_utf8(std::uint8_t byte);
/// The byte a character of the alphabet stands for.
std::optional<std::uint8_t> character_to_byte(char32_t character);

/// Every byte of `bytes` as its character.
std::string to_byte_alphabet(std::string_view bytes);
/// The bytes that `text` stands for; nullopt if a character is outside the alphabet.
std::optional<std::string> from_byte_alphabet(std::string_view text);

}  // namespace headway::text
