// Unicode normal forms of Unicode 9.0, as the reference tokenizers apply them.
// Not for: deciding when to normalise (normalizer.h).
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

namespace headway::text {

enum class NormalForm : std::uint8_t { kNfc, kNfd, kNfkc, kNfkd };

/// One character of normalised text and what it stands for: see Rewriter::put.
struct NormalisedPoint {
  char32_t point;
  int change;
};

/// Tables of one form, built on first use. A character younger than Unicode 9.0 is never touched.
class Normalisation {
 public:
  static const Normalisation& of(NormalForm form);

  /// True if `point` stays as it is whatever follows or precedes it, and nothing combines across
  /// the place before it.
  bool is_stable(char32_t point) const { return (stable_[point >> 6] >> (point & 63)) & 1; }
  /// True if every character is stable, so that the text is in the form. (Not: only if.)
  bool is_surely_normal(std::string_view text) const;

  /// The form of `points`, which begin with a stable character or at the start of a text and end
  /// before one or at its end.
  std::vector<NormalisedPoint> apply(const std::vector<char32_t>& points) const;

 private:
  explicit Normalisation(NormalForm form);
  std::vector<NormalisedPoint> decompose(const std::vector<char32_t>& points) const;

  bool compatible_;
  bool composes_;
  std::vector<std::uint64_t> stable_;
};

}  // namespace headway::text
