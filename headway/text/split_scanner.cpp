// The matchers: each follows the alternatives of its pattern in order, first success wins.
// Not for: patterns as text (known_patterns.cpp).
#include "headway/text/split_scanner_rules.h"

namespace headway::text::scanners {
namespace {

constexpr CategoryMask kMarkedLetter = mask::kLetter | mask::kMark;
constexpr CategoryMask kCased = mask::kUpper | mask::kOtherLetter | mask::kMark;
constexpr CategoryMask kUncased = mask_of(Category::kLl) | mask::kOtherLetter | mask::kMark;
constexpr CategoryMask kSign = mask::kPunctuation | mask::kSymbol;

bool is_line_end(const Glyph& glyph) { return glyph.point == '\n' || glyph.point == '\r'; }

// ` ?` or nothing, then one or more of `set`, then any of the line ends and `also`.
std::uint32_t match_run_after_space(Text text, std::uint32_t at, CategoryMask set, char32_t also) {
  Glyph glyph = text.glyph(at);
  if (glyph.point == ' ') {
    at += 1;
    if (at >= text.size()) return kNone;
    glyph = text.glyph(at);
  }
  if (!glyph.in(set)) return kNone;
  at = text.skip(at, set);
  while (at < text.size()) {
    const Glyph next = text.glyph(at);
    if (!is_line_end(next) && (also == 0 || next.point != also)) break;
    at += next.length;
  }
  return at;
}

// `[^\r\n…]?` as the complement of `excluded`, then one or more of `set`.
std::uint32_t match_prefixed_run(Text text, std::uint32_t at, CategoryMask excluded,
                                 CategoryMask set) {
  const Glyph glyph = text.glyph(at);
  if (!glyph.in(excluded) && !is_line_end(glyph)) {
    const std::uint32_t next = at + glyph.length;
    if (next < text.size() && text.glyph(next).in(set)) return text.skip(next, set);
  }
  return glyph.in(set) ? text.skip(at, set) : kNone;
}

// A run of at most `most` of `set`.
std::uint32_t match_up_to(Text text, std::uint32_t at, CategoryMask set, int most) {
  std::uint32_t end = kNone;
  for (int i = 0; i < most && at < text.size(); ++i) {
    const Glyph glyph = text.glyph(at);
    if (!glyph.in(set)) break;
    at += glyph.length;
    end = at;
  }
  return end;
}

// `\s*[\r\n]+|\s+(?!\S)|\s+` on a run of white space.
std::uint32_t match_space(Text text, std::uint32_t at) {
  const std::uint32_t begin = at;
  std::uint32_t after_line_end = kNone;
  std::uint32_t last = at;
  while (at < text.size()) {
    const Glyph glyph = text.glyph(at);
    if (!glyph.in(mask::kSpace)) break;
    last = at;
    at += glyph.length;
    if (is_line_end(glyph)) after_line_end = at;
  }
  if (after_line_end != kNone) return after_line_end;
  if (at == text.size() || last == begin) return at;
  return last;
}

// Letters after an apostrophe at `at`: s t m d re ve ll, in lower case or (`any_case`) any case.
std::uint32_t match_contraction(Text text, std::uint32_t at, bool any_case) {
  if (text.byte(at) != '\'' || at + 1 >= text.size()) return kNone;
  const auto fold = [any_case](unsigned char byte) {
    return any_case && byte >= 'A' && byte <= 'Z' ? static_cast<unsigned char>(byte + 32) : byte;
  };
  const unsigned char first = fold(text.byte(at + 1));
  if (first == 's' || first == 't' || first == 'm' || first == 'd') return at + 2;
  if (any_case && text.starts_with(at + 1, "\xC5\xBF")) return at + 3;  // long s
  if (at + 2 >= text.size()) return kNone;
  const unsigned char second = fold(text.byte(at + 2));
  const bool two =
      (second == 'e' && (first == 'r' || first == 'v')) || (second == 'l' && first == 'l');
  return two ? at + 3 : kNone;
}

std::uint32_t match_gpt2(Text text, std::uint32_t at) {
  const std::uint32_t contraction = match_contraction(text, at, false);
  if (contraction != kNone) return contraction;
  Glyph glyph = text.glyph(at);
  std::uint32_t from = at;
  if (glyph.point == ' ' && at + 1 < text.size()) {
    const Glyph next = text.glyph(at + 1);
    if (!next.in(mask::kSpace)) {
      glyph = next;
      from = at + 1;
    }
  }
  if (glyph.in(mask::kLetter)) return text.skip(from, mask::kLetter);
  if (glyph.in(mask::kNumber)) return text.skip(from, mask::kNumber);
  if (!glyph.in(mask::kSpace))
    return text.skip(from, ~(mask::kSpace | mask::kLetter | mask::kNumber));
  return match_space_run(text, at);
}

// The family of qwen2, llama3 and qwen3.5.
template <CategoryMask kWord, CategoryMask kExcluded, int kDigits>
std::uint32_t match_words(Text text, std::uint32_t at) {
  const Glyph glyph = text.glyph(at);
  if (glyph.in(kWord)) return text.skip(at, kWord);
  if (glyph.point == '\'') {
    const std::uint32_t contraction = match_contraction(text, at, true);
    if (contraction != kNone) return contraction;
  }
  std::uint32_t end = match_prefixed_run(text, at, kExcluded, kWord);
  if (end == kNone) end = match_up_to(text, at, mask::kNumber, kDigits);
  if (end == kNone) {
    constexpr CategoryMask kOther = ~(mask::kSpace | mask::kNumber | kWord);
    end = match_run_after_space(text, at, kOther, 0);
  }
  return end == kNone ? match_space(text, at) : end;
}

std::uint32_t match_cl100k(Text text, std::uint32_t at) {
  std::uint32_t end = match_contraction(text, at, true);
  if (end == kNone) {
    end = match_prefixed_run(text, at, mask::kLetter | mask::kNumber, mask::kLetter);
  }
  if (end != kNone) return end;
  if (text.glyph(at).in(mask::kNumber)) return text.skip(at, mask::kNumber);
  constexpr CategoryMask kOther = ~(mask::kSpace | mask::kNumber | mask::kLetter);
  end = match_run_after_space(text, at, kOther, 0);
  if (end != kNone) return end;
  const std::uint32_t run = text.skip(at, mask::kSpace);
  if (run == text.size()) return run;
  end = match_space(text, at);
  return end;
}

// `A*B+` for overlapping sets: the longest run of A that leaves one of B behind it.
std::uint32_t match_upper_lower(Text text, std::uint32_t at, CategoryMask upper,
                                CategoryMask lower) {
  const std::uint32_t end = text.skip(at, upper);
  if (end < text.size() && text.glyph(end).in(lower)) return text.skip(end, lower);
  for (std::uint32_t back = end; back > at;) {
    const std::uint32_t from = back - length_before(text.view(), back);
    if (text.glyph(from).in(lower)) return back;
    back = from;
  }
  return kNone;
}

std::uint32_t match_upper(Text text, std::uint32_t at, CategoryMask upper, CategoryMask lower) {
  const std::uint32_t end = text.skip(at, upper);
  return end == at ? kNone : text.skip(end, lower);
}

// One of the two case-aware words at `at`, with and without the character before it.
template <class Match>
std::uint32_t match_with_prefix(Text text, std::uint32_t at, Match match) {
  const Glyph glyph = text.glyph(at);
  if (!glyph.in(mask::kLetter | mask::kNumber) && !is_line_end(glyph) &&
      at + glyph.length < text.size()) {
    const std::uint32_t end = match(at + glyph.length);
    if (end != kNone) return end;
  }
  return match(at);
}

// The family of o200k, tekken and kimi. kOutside: categories that words may not hold.
template <CategoryMask kOutside, bool kContractions, int kDigits, char32_t kTail>
std::uint32_t match_cased(Text text, std::uint32_t at) {
  constexpr CategoryMask kUpperSet = kCased & ~kOutside;
  constexpr CategoryMask kLowerSet = kUncased & ~kOutside;
  if (kOutside != 0 && text.glyph(at).in(kOutside)) return text.skip(at, kOutside);
  std::uint32_t end = match_with_prefix(text, at, [&](std::uint32_t from) {
    return match_upper_lower(text, from, kUpperSet, kLowerSet);
  });
  if (end == kNone) {
    end = match_with_prefix(text, at, [&](std::uint32_t from) {
      return match_upper(text, from, kUpperSet, kLowerSet);
    });
  }
  if (end != kNone) {
    if (!kContractions || end >= text.size()) return end;
    const std::uint32_t longer = match_contraction(text, end, true);
    return longer == kNone ? end : longer;
  }
  end = match_up_to(text, at, mask::kNumber, kDigits);
  if (end == kNone) {
    constexpr CategoryMask kOther = ~(mask::kSpace | mask::kNumber | mask::kLetter);
    end = match_run_after_space(text, at, kOther, kTail);
  }
  return end == kNone ? match_space(text, at) : end;
}

std::uint32_t match_deepseek(Text text, std::uint32_t at) {
  const Glyph glyph = text.glyph(at);
  if (glyph.point < 0x80 && glyph.in(kSign) && at + 1 < text.size()) {
    std::uint32_t end = at + 1;
    while (end < text.size() && is_ascii_letter(text.byte(end))) ++end;
    if (end > at + 1) return end;
  }
  std::uint32_t end = match_prefixed_run(text, at, mask::kLetter | kSign, kMarkedLetter);
  if (end == kNone) end = match_run_after_space(text, at, kSign, 0);
  if (end == kNone && glyph.in(mask::kSpace)) end = match_space(text, at);
  return end;
}

std::uint32_t match_three_digits(Text text, std::uint32_t at) {
  return match_up_to(text, at, mask::kNumber, 3);
}

bool is_cjk_or_kana(char32_t point) {
  return (point >= 0x4E00 && point <= 0x9FA5) || (point >= 0x3040 && point <= 0x30FF);
}

std::uint32_t match_cjk(Text text, std::uint32_t at) {
  std::uint32_t end = kNone;
  while (at < text.size()) {
    const Glyph glyph = text.glyph(at);
    if (!is_cjk_or_kana(glyph.point)) break;
    at += glyph.length;
    end = at;
  }
  return end;
}

template <std::uint32_t (*kMatch)(Text, std::uint32_t)>
void scan(std::string_view view, std::vector<Stretch>& out) {
  const Text text(view);
  std::uint32_t previous = 0;
  std::uint32_t at = 0;
  while (at < text.size()) {
    const std::uint32_t end = kMatch(text, at);
    if (end == kNone) {
      at += text.glyph(at).length;
      continue;
    }
    if (previous != at) out.push_back({{previous, at}, false});
    out.push_back({{at, end}, true});
    previous = at = end;
  }
  if (previous != at) out.push_back({{previous, at}, false});
}

constexpr CategoryMask kLetterOrNumber = mask::kLetter | mask::kNumber;

}  // namespace

const SplitScanner kGpt2 = scan<match_gpt2>;
const SplitScanner kQwen2 = scan<match_words<mask::kLetter, kLetterOrNumber, 1>>;
const SplitScanner kLlama3 = scan<match_words<mask::kLetter, kLetterOrNumber, 3>>;
const SplitScanner kQwen35 = scan<match_words<kMarkedLetter, kLetterOrNumber, 1>>;
const SplitScanner kCl100k = scan<match_cl100k>;
const SplitScanner kO200k = scan<match_cased<0, true, 3, U'/'>>;
const SplitScanner kTekken = scan<match_cased<0, false, 1, U'/'>>;
const SplitScanner kKimi = scan<match_cased<mask::kHan, true, 3, 0>>;
const SplitScanner kThreeDigits = scan<match_three_digits>;
const SplitScanner kCjk = scan<match_cjk>;
const SplitScanner kDeepseek = scan<match_deepseek>;

}  // namespace headway::text::scanners
