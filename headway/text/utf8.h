// UTF-8 repair by the Unicode rule, whole or streamed: one U+FFFD per maximal subpart.
// Not for: plain checks (headway::find_invalid_utf8), Unicode properties or normalisation.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace headway::text {

enum class Utf8Kind { kValid, kInvalid, kIncomplete };

/// What stands at one place of a byte string: a whole character, or a maximal subpart of one (the
/// longest run that begins a well-formed sequence, at least one byte) that is broken off by another
/// byte (kInvalid) or by the end of the string (kIncomplete).
struct Utf8Step {
  Utf8Kind kind;
  std::size_t length;  // bytes, >= 1
};

/// The step at `position` < bytes.size(). Well-formed as the Unicode Standard table 3-7: no
/// overlong forms, no surrogates, nothing above U+10FFFF.
Utf8Step utf8_step(std::string_view bytes, std::size_t position);

/// Number of bytes at the end (0 to 3) that begin a well-formed sequence without finishing it.
std::size_t incomplete_utf8_suffix(std::string_view bytes);

/// `bytes` with every maximal subpart of an ill-formed sequence replaced by one U+FFFD.
std::string repair_utf8(std::string_view bytes);

/// repair_utf8 for bytes that arrive in pieces: a character split between pieces is held back until
/// it is whole. The concatenation of every push and of finish equals repair_utf8 of all bytes.
class Utf8Stream {
 public:
  std::string push(std::string_view bytes);
  /// U+FFFD if a character was never finished, else nothing. The stream may be used again.
  std::string finish();

 private:
  std::string pending_;
};

}  // namespace headway::text
