// Code points and the character classes of the reference tokenizers, which do not all have the same
// Unicode version: patterns are 16, digits and lowercase 17, punctuation about 8, accents 9.
// Not for: normal forms (normal_form.h) or repair of bytes that are not UTF-8 (utf8.h).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace headway::text {

constexpr char32_t kEndOfUnicode = 0x110000;

struct DecodedPoint {
  char32_t point;
  std::uint32_t length;
};

/// The code point at `position` of well-formed UTF-8. Undefined for other bytes.
inline DecodedPoint decode_point(std::string_view text, std::size_t position) {
  const auto* p = reinterpret_cast<const unsigned char*>(text.data()) + position;
  if (p[0] < 0x80) return {p[0], 1};
  if (p[0] < 0xE0) return {static_cast<char32_t>((p[0] & 0x1F) << 6 | (p[1] & 0x3F)), 2};
  if (p[0] < 0xF0) {
    return {static_cast<char32_t>((p[0] & 0x0F) << 12 | (p[1] & 0x3F) << 6 | (p[2] & 0x3F)), 3};
  }
  return {static_cast<char32_t>((p[0] & 0x07) << 18 | (p[1] & 0x3F) << 12 | (p[2] & 0x3F) << 6 |
                                (p[3] & 0x3F)),
          4};
}

/// Length of the code point before `position` > 0 of well-formed UTF-8.
inline std::uint32_t length_before(std::string_view text, std::size_t position) {
  std::uint32_t length = 1;
  while ((static_cast<unsigned char>(text[position - length]) & 0xC0) == 0x80) ++length;
  return length;
}

void append_point(std::string& out, char32_t point);
std::string point_to_utf8(char32_t point);
std::vector<char32_t> utf8_to_points(std::string_view text);

/// General categories; characters that patterns single out have their own: control characters that
/// are white space, and those of the script Han.
enum class Category : std::uint8_t {
  kCn,
  kLu,
  kLl,
  kLt,
  kLm,
  kLo,
  kMn,
  kMc,
  kMe,
  kNd,
  kNl,
  kNo,
  kPc,
  kPd,
  kPs,
  kPe,
  kPi,
  kPf,
  kPo,
  kSm,
  kSc,
  kSk,
  kSo,
  kZs,
  kZl,
  kZp,
  kCc,
  kCf,
  kCo,
  kCs,
  kCcSpace,
  kLmHan,
  kLoHan,
  kNlHan,
  kSoHan,
  kPoHan,
  kMcHan,
  kMnHan,
  kCount,
};

/// A set of categories: bit i stands for Category i.
using CategoryMask = std::uint64_t;

constexpr CategoryMask mask_of(Category category) {
  return CategoryMask{1} << static_cast<unsigned>(category);
}

/// The mask of a property as patterns write it ("L", "Lu", "Letter", "Han"); nullopt if these
/// tables do not have it. Case, spaces, '-' and '_' do not matter.
std::optional<CategoryMask> property_mask(std::string_view name);

namespace mask {
constexpr CategoryMask kHan = mask_of(Category::kLmHan) | mask_of(Category::kLoHan) |
                              mask_of(Category::kNlHan) | mask_of(Category::kSoHan) |
                              mask_of(Category::kPoHan) | mask_of(Category::kMcHan) |
                              mask_of(Category::kMnHan);
constexpr CategoryMask kUpper = mask_of(Category::kLu) | mask_of(Category::kLt);
constexpr CategoryMask kOtherLetter = mask_of(Category::kLm) | mask_of(Category::kLo) |
                                      mask_of(Category::kLmHan) | mask_of(Category::kLoHan);
constexpr CategoryMask kLetter = kUpper | mask_of(Category::kLl) | kOtherLetter;
constexpr CategoryMask kMark = mask_of(Category::kMn) | mask_of(Category::kMc) |
                               mask_of(Category::kMe) | mask_of(Category::kMcHan) |
                               mask_of(Category::kMnHan);
constexpr CategoryMask kNumber = mask_of(Category::kNd) | mask_of(Category::kNl) |
                                 mask_of(Category::kNo) | mask_of(Category::kNlHan);
constexpr CategoryMask kPunctuation = mask_of(Category::kPc) | mask_of(Category::kPd) |
                                      mask_of(Category::kPs) | mask_of(Category::kPe) |
                                      mask_of(Category::kPi) | mask_of(Category::kPf) |
                                      mask_of(Category::kPo) | mask_of(Category::kPoHan);
constexpr CategoryMask kSymbol = mask_of(Category::kSm) | mask_of(Category::kSc) |
                                 mask_of(Category::kSk) | mask_of(Category::kSo) |
                                 mask_of(Category::kSoHan);
constexpr CategoryMask kSpace = mask_of(Category::kZs) | mask_of(Category::kZl) |
                                mask_of(Category::kZp) | mask_of(Category::kCcSpace);
}  // namespace mask

namespace internal {
extern const std::uint8_t* const kCategories;  // one per code point
}

inline Category category_of(char32_t point) {
  return static_cast<Category>(internal::kCategories[point]);
}
inline bool in_mask(char32_t point, CategoryMask mask) {
  return (mask >> internal::kCategories[point]) & 1;
}
inline bool is_white_space(char32_t point) { return in_mask(point, mask::kSpace); }

struct PointRange {
  char32_t first;
  char32_t last;  // inclusive
};

/// A set of code points, looked up by bit.
class PointSet {
 public:
  explicit PointSet(std::vector<PointRange> ranges);
  bool contains(char32_t point) const { return (bits_[point >> 6] >> (point & 63)) & 1; }
  const std::vector<PointRange>& ranges() const { return ranges_; }

 private:
  std::vector<PointRange> ranges_;
  std::vector<std::uint64_t> bits_;
};

const PointSet& regex_word_characters();  // \w of patterns
const PointSet& word_characters();        // of single_word and of the pre-tokenizer Whitespace
const PointSet& punctuation_characters();
const PointSet& numeric_characters();
const PointSet& accent_characters();
const PointSet& bert_control_characters();
const PointSet& bert_accent_characters();
const PointSet& unicode9_characters();

/// The ranges of code points (surrogates left out) whose category is in `mask`.
std::vector<PointRange> ranges_of(CategoryMask mask);

/// Lowercase of one code point: one, or for U+0130 two.
struct LowerCase {
  char32_t first;
  char32_t second;  // 0: none
};
LowerCase lower_case(char32_t point);

}  // namespace headway::text
