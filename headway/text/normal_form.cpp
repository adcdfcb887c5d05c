// Decomposition, canonical order and composition with the bookkeeping of what replaced what.
// Character data are utf8proc's (Unicode 15), restricted to characters of Unicode 9.0.
// Not for: text; callers cut it into runs that do not interact.
#include "headway/text/normal_form.h"

#include <algorithm>
#include <array>
#include <optional>
#include <unordered_map>

#include <utf8proc.h>

#include "headway/text/unicode.h"

namespace headway::text {
namespace {

constexpr char32_t kEndOfMappings = 0x30000;  // nothing above decomposes or combines
constexpr char32_t kLongest = 18;             // U+FDFA, code points

bool is_known(char32_t point) { return unicode9_characters().contains(point); }

int combining_class(char32_t point) {
  if (point < 0x300 || !is_known(point)) return 0;
  return utf8proc_get_property(static_cast<utf8proc_int32_t>(point))->combining_class;
}

struct Decomposition {
  std::array<utf8proc_int32_t, kLongest + 2> points;
  std::size_t size;
};

Decomposition decomposition_of(char32_t point, bool compatible) {
  Decomposition result{{static_cast<utf8proc_int32_t>(point)}, 1};
  if (point < 0x80 || !is_known(point)) return result;
  int boundary = 0;
  const int options = UTF8PROC_DECOMPOSE | (compatible ? UTF8PROC_COMPAT : 0);
  const auto size =
      utf8proc_decompose_char(static_cast<utf8proc_int32_t>(point), result.points.data(),
                              static_cast<utf8proc_ssize_t>(result.points.size()),
                              static_cast<utf8proc_option_t>(options), &boundary);
  if (size > 0 && size <= static_cast<utf8proc_ssize_t>(result.points.size())) {
    result.size = static_cast<std::size_t>(size);
  } else {
    result.points[0] = static_cast<utf8proc_int32_t>(point);
  }
  return result;
}

// Without STABLE the composition exclusions are not honoured.
const auto kComposeOptions = static_cast<utf8proc_option_t>(UTF8PROC_COMPOSE | UTF8PROC_STABLE);

constexpr char32_t kHangulBase = 0xAC00, kLeadBase = 0x1100, kVowelBase = 0x1161,
                   kTailBase = 0x11A7;
constexpr char32_t kVowels = 21, kTails = 28, kSyllables = 11172, kLeads = 19;

std::uint64_t pair_key(char32_t a, char32_t b) { return std::uint64_t{a} << 32 | b; }

using Pairs = std::unordered_map<std::uint64_t, char32_t>;

// Every primary composite with its two parts.
Pairs collect_pairs() {
  Pairs pairs;
  for (char32_t point = 0xC0; point < kEndOfMappings; ++point) {
    if (point >= kHangulBase && point < kHangulBase + kSyllables) continue;
    if (!is_known(point)) continue;
    const Decomposition whole = decomposition_of(point, false);
    if (whole.size < 2) continue;
    auto copy = whole.points;
    const auto composed =
        utf8proc_normalize_utf32(copy.data(), static_cast<int>(whole.size), kComposeOptions);
    if (composed != 1 || copy[0] != static_cast<utf8proc_int32_t>(point)) continue;
    auto head = whole.points;
    const auto first =
        utf8proc_normalize_utf32(head.data(), static_cast<int>(whole.size) - 1, kComposeOptions);
    if (first != 1) continue;
    pairs[pair_key(static_cast<char32_t>(head[0]),
                   static_cast<char32_t>(whole.points[whole.size - 1]))] = point;
  }
  return pairs;
}

const Pairs& pairs() {
  static const Pairs all = collect_pairs();
  return all;
}

bool is_second_of_hangul(char32_t point) {
  return (point >= kVowelBase && point < kVowelBase + kVowels) ||
         (point > kTailBase && point < kTailBase + kTails);
}

std::optional<char32_t> compose(char32_t a, char32_t b) {
  if (a >= kLeadBase && a < kLeadBase + kLeads && b >= kVowelBase && b < kVowelBase + kVowels) {
    return kHangulBase + ((a - kLeadBase) * kVowels + (b - kVowelBase)) * kTails;
  }
  if (a >= kHangulBase && a < kHangulBase + kSyllables && (a - kHangulBase) % kTails == 0 &&
      b > kTailBase && b < kTailBase + kTails) {
    return a + (b - kTailBase);
  }
  const auto found = pairs().find(pair_key(a, b));
  if (found == pairs().end()) return std::nullopt;
  return found->second;
}

// Composition of a decomposed, ordered run; a composite's change says how many it swallowed.
class Composer {
 public:
  std::vector<NormalisedPoint> run(const std::vector<NormalisedPoint>& points) {
    for (const NormalisedPoint& next : points) take(next);
    flush();
    return std::move(out_);
  }

 private:
  void take(NormalisedPoint next) {
    const int next_class = combining_class(next.point);
    if (!starter_) {
      if (next_class != 0) {
        out_.push_back(next);
      } else {
        starter_ = next;
      }
      return;
    }
    const bool blocked = last_class_ && *last_class_ >= next_class;
    if (!blocked) {
      if (const auto composite = compose(starter_->point, next.point)) {
        starter_ = {*composite, starter_->change + next.change - 1};
        return;
      }
    }
    if (next_class == 0) {
      flush();
      starter_ = next;
      return;
    }
    marks_.push_back(next);
    last_class_ = next_class;
  }

  void flush() {
    if (starter_) out_.push_back(*starter_);
    out_.insert(out_.end(), marks_.begin(), marks_.end());
    starter_.reset();
    marks_.clear();
    last_class_.reset();
  }

  std::optional<NormalisedPoint> starter_;
  std::optional<int> last_class_;
  std::vector<NormalisedPoint> marks_;
  std::vector<NormalisedPoint> out_;
};

std::vector<bool> seconds_of_pairs() {
  std::vector<bool> seconds(kEndOfMappings);
  for (const auto& [key, composite] : pairs()) seconds[key & 0xFFFFFFFFu] = true;
  return seconds;
}

}  // namespace

const Normalisation& Normalisation::of(NormalForm form) {
  switch (form) {
    case NormalForm::kNfc: {
      static const Normalisation nfc(NormalForm::kNfc);
      return nfc;
    }
    case NormalForm::kNfd: {
      static const Normalisation nfd(NormalForm::kNfd);
      return nfd;
    }
    case NormalForm::kNfkc: {
      static const Normalisation nfkc(NormalForm::kNfkc);
      return nfkc;
    }
    case NormalForm::kNfkd:
      break;
  }
  static const Normalisation nfkd(NormalForm::kNfkd);
  return nfkd;
}

Normalisation::Normalisation(NormalForm form)
    : compatible_(form == NormalForm::kNfkc || form == NormalForm::kNfkd),
      composes_(form == NormalForm::kNfc || form == NormalForm::kNfkc),
      stable_(kEndOfUnicode / 64, ~std::uint64_t{0}) {
  const std::vector<bool> seconds = composes_ ? seconds_of_pairs() : std::vector<bool>();
  std::vector<char32_t> alone(1);
  for (char32_t point = 0x80; point < kEndOfMappings; ++point) {
    if (point >= 0xD800 && point < 0xE000) continue;
    bool stable = combining_class(point) == 0;
    if (stable && composes_) stable = !seconds[point] && !is_second_of_hangul(point);
    const Decomposition parts = decomposition_of(point, compatible_);
    if (stable && (parts.size != 1 || static_cast<char32_t>(parts.points[0]) != point)) {
      alone[0] = point;
      const auto form_of_it = apply(alone);
      stable = form_of_it.size() == 1 && form_of_it[0].point == point;
    }
    if (!stable) stable_[point >> 6] &= ~(std::uint64_t{1} << (point & 63));
  }
}

bool Normalisation::is_surely_normal(std::string_view text) const {
  for (std::size_t at = 0; at < text.size();) {
    if (static_cast<unsigned char>(text[at]) < 0x80) {
      ++at;
      continue;
    }
    const DecodedPoint decoded = decode_point(text, at);
    if (!is_stable(decoded.point)) return false;
    at += decoded.length;
  }
  return true;
}

std::vector<NormalisedPoint> Normalisation::decompose(const std::vector<char32_t>& points) const {
  std::vector<NormalisedPoint> out;
  std::vector<int> classes;
  std::size_t run = 0;  // first character of the open run of marks
  const auto sort_run = [&] {
    for (std::size_t i = run + 1; i < out.size(); ++i) {
      if (classes[i] >= classes[i - 1]) continue;
      std::vector<std::size_t> order(out.size() - run);
      for (std::size_t k = 0; k < order.size(); ++k) order[k] = run + k;
      std::stable_sort(order.begin(), order.end(),
                       [&](std::size_t a, std::size_t b) { return classes[a] < classes[b]; });
      std::vector<NormalisedPoint> sorted;
      for (const std::size_t k : order) sorted.push_back(out[k]);
      std::copy(sorted.begin(), sorted.end(), out.begin() + static_cast<std::ptrdiff_t>(run));
      break;
    }
  };
  for (const char32_t point : points) {
    const Decomposition parts = decomposition_of(point, compatible_);
    for (std::size_t i = 0; i < parts.size; ++i) {
      const auto part = static_cast<char32_t>(parts.points[i]);
      const int part_class = combining_class(part);
      if (part_class == 0) {
        sort_run();
        run = out.size();
      }
      out.push_back({part, i == 0 ? 0 : 1});
      classes.push_back(part_class);
      if (part_class == 0) run = out.size();
    }
  }
  sort_run();
  return out;
}

std::vector<NormalisedPoint> Normalisation::apply(const std::vector<char32_t>& points) const {
  std::vector<NormalisedPoint> parts = decompose(points);
  return composes_ ? Composer().run(parts) : parts;
}

}  // namespace headway::text
