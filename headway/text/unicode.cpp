// Unpacks the generated tables, once, on first use.
// Not for: the data themselves (tools/make_unicode_tables.py writes them).
#include "headway/text/unicode.h"

#include <algorithm>
#include <unordered_map>

#include "headway/text/unicode_tables.h"

namespace headway::text {
namespace {

unsigned digit_value(char digit) {
  if (digit <= '9') return digit == '+' ? 62u : digit == '-' ? 63u : unsigned(digit - '0');
  return digit <= 'Z' ? unsigned(digit - 'A') + 10 : unsigned(digit - 'a') + 36;
}

// Reads the numbers of a packed table one after the other.
class Numbers {
 public:
  explicit Numbers(const char* text) : at_(text) {}
  bool done() const { return *at_ == 0; }
  unsigned digit() { return digit_value(*at_++); }
  std::uint32_t next() {
    std::uint32_t value = 0;
    for (unsigned shift = 0;; shift += 5) {
      const unsigned part = digit();
      value |= (part & 31u) << shift;
      if (part < 32) return value;
    }
  }

 private:
  const char* at_;
};

const std::uint8_t* unpack_categories() {
  static std::array<std::uint8_t, kEndOfUnicode> categories;
  std::size_t at = 0;
  for (Numbers numbers(tables::kCategoryRuns); !numbers.done();) {
    const auto category = static_cast<std::uint8_t>(numbers.digit());
    const std::uint32_t length = numbers.next();
    std::fill_n(categories.begin() + static_cast<std::ptrdiff_t>(at), length, category);
    at += length;
  }
  return categories.data();
}

PointSet unpack_set(const char* packed) {
  std::vector<PointRange> ranges;
  char32_t at = 0;
  for (Numbers numbers(packed); !numbers.done();) {
    const char32_t first = at + numbers.next();
    at = first + numbers.next();
    ranges.push_back({first, at - 1});
  }
  return PointSet(std::move(ranges));
}

std::unordered_map<char32_t, char32_t> unpack_lowercase() {
  std::unordered_map<char32_t, char32_t> mapping;
  char32_t at = 0;
  for (Numbers numbers(tables::kLowercase); !numbers.done();) {
    at += numbers.next();
    const std::uint32_t zigzag = numbers.next();
    mapping[at] = zigzag & 1 ? at - (zigzag + 1) / 2 : at + zigzag / 2;
  }
  return mapping;
}

struct NamedMask {
  std::string_view name;
  CategoryMask mask;
};

constexpr CategoryMask kControl = mask_of(Category::kCc) | mask_of(Category::kCcSpace);
constexpr CategoryMask kSeparator =
    mask_of(Category::kZs) | mask_of(Category::kZl) | mask_of(Category::kZp);
constexpr CategoryMask kOther = kControl | mask_of(Category::kCf) | mask_of(Category::kCo) |
                                mask_of(Category::kCs) | mask_of(Category::kCn);
constexpr CategoryMask both(Category a, Category b) { return mask_of(a) | mask_of(b); }

constexpr NamedMask kProperties[] = {
    {"l", mask::kLetter},
    {"letter", mask::kLetter},
    {"lu", mask_of(Category::kLu)},
    {"uppercaseletter", mask_of(Category::kLu)},
    {"ll", mask_of(Category::kLl)},
    {"lowercaseletter", mask_of(Category::kLl)},
    {"lt", mask_of(Category::kLt)},
    {"titlecaseletter", mask_of(Category::kLt)},
    {"lm", both(Category::kLm, Category::kLmHan)},
    {"modifierletter", both(Category::kLm, Category::kLmHan)},
    {"lo", both(Category::kLo, Category::kLoHan)},
    {"otherletter", both(Category::kLo, Category::kLoHan)},
    {"m", mask::kMark},
    {"mark", mask::kMark},
    {"combiningmark", mask::kMark},
    {"mn", both(Category::kMn, Category::kMnHan)},
    {"nonspacingmark", both(Category::kMn, Category::kMnHan)},
    {"mc", both(Category::kMc, Category::kMcHan)},
    {"spacingmark", both(Category::kMc, Category::kMcHan)},
    {"me", mask_of(Category::kMe)},
    {"enclosingmark", mask_of(Category::kMe)},
    {"n", mask::kNumber},
    {"number", mask::kNumber},
    {"nd", mask_of(Category::kNd)},
    {"decimalnumber", mask_of(Category::kNd)},
    {"nl", both(Category::kNl, Category::kNlHan)},
    {"letternumber", both(Category::kNl, Category::kNlHan)},
    {"no", mask_of(Category::kNo)},
    {"othernumber", mask_of(Category::kNo)},
    {"p", mask::kPunctuation},
    {"punctuation", mask::kPunctuation},
    {"pc", mask_of(Category::kPc)},
    {"connectorpunctuation", mask_of(Category::kPc)},
    {"pd", mask_of(Category::kPd)},
    {"dashpunctuation", mask_of(Category::kPd)},
    {"ps", mask_of(Category::kPs)},
    {"openpunctuation", mask_of(Category::kPs)},
    {"pe", mask_of(Category::kPe)},
    {"closepunctuation", mask_of(Category::kPe)},
    {"pi", mask_of(Category::kPi)},
    {"initialpunctuation", mask_of(Category::kPi)},
    {"pf", mask_of(Category::kPf)},
    {"finalpunctuation", mask_of(Category::kPf)},
    {"po", both(Category::kPo, Category::kPoHan)},
    {"otherpunctuation", both(Category::kPo, Category::kPoHan)},
    {"s", mask::kSymbol},
    {"symbol", mask::kSymbol},
    {"sm", mask_of(Category::kSm)},
    {"mathsymbol", mask_of(Category::kSm)},
    {"sc", mask_of(Category::kSc)},
    {"currencysymbol", mask_of(Category::kSc)},
    {"sk", mask_of(Category::kSk)},
    {"modifiersymbol", mask_of(Category::kSk)},
    {"so", both(Category::kSo, Category::kSoHan)},
    {"othersymbol", both(Category::kSo, Category::kSoHan)},
    {"z", kSeparator},
    {"separator", kSeparator},
    {"zs", mask_of(Category::kZs)},
    {"spaceseparator", mask_of(Category::kZs)},
    {"zl", mask_of(Category::kZl)},
    {"lineseparator", mask_of(Category::kZl)},
    {"zp", mask_of(Category::kZp)},
    {"paragraphseparator", mask_of(Category::kZp)},
    {"c", kOther},
    {"other", kOther},
    {"cc", kControl},
    {"control", kControl},
    {"cf", mask_of(Category::kCf)},
    {"format", mask_of(Category::kCf)},
    {"cn", mask_of(Category::kCn)},
    {"unassigned", mask_of(Category::kCn)},
    {"co", mask_of(Category::kCo)},
    {"privateuse", mask_of(Category::kCo)},
    {"han", mask::kHan},
};

}  // namespace

namespace internal {
const std::uint8_t* const kCategories = unpack_categories();
}

void append_point(std::string& out, char32_t point) {
  const auto byte = [&out](char32_t value) { out += static_cast<char>(value); };
  if (point < 0x80) {
    byte(point);
  } else if (point < 0x800) {
    byte(0xC0 | point >> 6);
    byte(0x80 | (point & 0x3F));
  } else if (point < 0x10000) {
    byte(0xE0 | point >> 12);
    byte(0x80 | (point >> 6 & 0x3F));
    byte(0x80 | (point & 0x3F));
  } else {
    byte(0xF0 | point >> 18);
    byte(0x80 | (point >> 12 & 0x3F));
    byte(0x80 | (point >> 6 & 0x3F));
    byte(0x80 | (point & 0x3F));
  }
}

std::string point_to_utf8(char32_t point) {
  std::string text;
  append_point(text, point);
  return text;
}

std::vector<char32_t> utf8_to_points(std::string_view text) {
  std::vector<char32_t> points;
  points.reserve(text.size());
  for (std::size_t at = 0; at < text.size();) {
    const DecodedPoint decoded = decode_point(text, at);
    points.push_back(decoded.point);
    at += decoded.length;
  }
  return points;
}

std::optional<CategoryMask> property_mask(std::string_view name) {
  std::string plain;
  for (const char c : name) {
    if (c == ' ' || c == '-' || c == '_') continue;
    plain += c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  }
  for (const NamedMask& property : kProperties) {
    if (property.name == plain) return property.mask;
  }
  return std::nullopt;
}

PointSet::PointSet(std::vector<PointRange> ranges)
    : ranges_(std::move(ranges)), bits_(kEndOfUnicode / 64) {
  for (const PointRange& range : ranges_) {
    for (char32_t point = range.first; point <= range.last; ++point) {
      bits_[point >> 6] |= std::uint64_t{1} << (point & 63);
    }
  }
}

const PointSet& regex_word_characters() {
  static const PointSet set = unpack_set(tables::kRegexWord);
  return set;
}
const PointSet& word_characters() {
  static const PointSet set = unpack_set(tables::kWord);
  return set;
}
const PointSet& punctuation_characters() {
  static const PointSet set = unpack_set(tables::kPunctuation);
  return set;
}
const PointSet& numeric_characters() {
  static const PointSet set = unpack_set(tables::kNumeric);
  return set;
}
const PointSet& accent_characters() {
  static const PointSet set = unpack_set(tables::kAccents);
  return set;
}
const PointSet& bert_control_characters() {
  static const PointSet set = unpack_set(tables::kBertControl);
  return set;
}
const PointSet& bert_accent_characters() {
  static const PointSet set = unpack_set(tables::kBertAccents);
  return set;
}
const PointSet& unicode9_characters() {
  static const PointSet set = unpack_set(tables::kUnicode9);
  return set;
}

std::vector<PointRange> ranges_of(CategoryMask mask) {
  std::vector<PointRange> ranges;
  for (char32_t point = 0; point < kEndOfUnicode; ++point) {
    if ((point >= 0xD800 && point < 0xE000) || !in_mask(point, mask)) continue;
    if (!ranges.empty() && ranges.back().last + 1 == point) {
      ranges.back().last = point;
    } else {
      ranges.push_back({point, point});
    }
  }
  return ranges;
}

LowerCase lower_case(char32_t point) {
  if (point < 0x80) return {point >= 'A' && point <= 'Z' ? point + 32 : point, 0};
  if (point == 0x130) return {U'i', 0x307};
  static const std::unordered_map<char32_t, char32_t> mapping = unpack_lowercase();
  const auto found = mapping.find(point);
  return {found == mapping.end() ? point : found->second, 0};
}

}  // namespace headway::text
