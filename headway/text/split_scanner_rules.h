// The text as scanners see it: characters with their category, runs of a set.
// Not for: users of scanners (split_scanner.h).
#pragma once

#include <cstdint>
#include <string_view>

#include "headway/text/split_scanner.h"
#include "headway/text/unicode.h"

namespace headway::text::scanners {

constexpr std::uint32_t kNone = 0xFFFFFFFFu;  // no match

struct Glyph {
  char32_t point;
  std::uint32_t length;
  std::uint8_t category;
  bool in(CategoryMask set) const { return (set >> category) & 1; }
};

class Text {
 public:
  explicit Text(std::string_view view) : view_(view) {}
  std::uint32_t size() const { return static_cast<std::uint32_t>(view_.size()); }
  std::string_view view() const { return view_; }
  unsigned char byte(std::uint32_t at) const { return static_cast<unsigned char>(view_[at]); }
  bool starts_with(std::uint32_t at, std::string_view prefix) const {
    return view_.substr(at, prefix.size()) == prefix;
  }
  Glyph glyph(std::uint32_t at) const {
    const unsigned char first = byte(at);
    if (first < 0x80) return {first, 1, internal::kCategories[first]};
    const DecodedPoint decoded = decode_point(view_, at);
    return {decoded.point, decoded.length, internal::kCategories[decoded.point]};
  }
  /// End of the run of `set` that begins at `at`; `at` if it is empty.
  std::uint32_t skip(std::uint32_t at, CategoryMask set) const {
    while (at < size()) {
      const Glyph next = glyph(at);
      if (!next.in(set)) break;
      at += next.length;
    }
    return at;
  }

 private:
  std::string_view view_;
};

inline bool is_ascii_letter(unsigned char byte) {
  return (byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z');
}

/// `\s+(?!\S)|\s+` on a run of white space that begins at `at`.
inline std::uint32_t match_space_run(Text text, std::uint32_t at) {
  const std::uint32_t end = text.skip(at, mask::kSpace);
  if (end == text.size()) return end;
  const std::uint32_t last = end - length_before(text.view(), end);
  return last == at ? end : last;
}

extern const SplitScanner kGpt2, kQwen2, kLlama3, kQwen35, kCl100k, kO200k, kTekken, kKimi,
    kThreeDigits, kCjk, kDeepseek;

}  // namespace headway::text::scanners
