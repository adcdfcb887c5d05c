// Rewrites the classes of a pattern whose members depend on the Unicode version.
// Not for: anything else of the dialect, which is Oniguruma's own.
#include <unordered_map>

#include <fmt/format.h>

#include "headway/text/pattern.h"
#include "headway/text/unicode.h"

namespace headway::text {
namespace {

std::string spell(const std::vector<PointRange>& ranges) {
  std::string text;
  for (const PointRange& range : ranges) {
    text += fmt::format("\\x{{{:X}}}", static_cast<std::uint32_t>(range.first));
    if (range.last != range.first) {
      text += fmt::format("-\\x{{{:X}}}", static_cast<std::uint32_t>(range.last));
    }
  }
  return text;
}

// Walks over a pattern and copies it, classes replaced.
class Rewrite {
 public:
  explicit Rewrite(std::string_view source) : source_(source) {}

  std::string run() {
    while (at_ < source_.size()) step();
    return std::move(out_);
  }

 private:
  void step() {
    const char c = source_[at_];
    if (c == '\\') return escape();
    if (depth_ > 0 && source_.compare(at_, 2, "[:") == 0) {
      const std::size_t end = source_.find(":]", at_ + 2);
      if (end != std::string_view::npos) return copy(end + 2 - at_);
    }
    if (c == '[') {
      ++depth_;
      copy(1);
      if (at_ < source_.size() && source_[at_] == '^') copy(1);
      if (at_ < source_.size() && source_[at_] == ']') copy(1);  // a literal one
      return;
    }
    if (c == ']' && depth_ > 0) --depth_;
    copy(1);
  }

  void copy(std::size_t count) {
    out_ += source_.substr(at_, count);
    at_ += count;
  }

  void escape() {
    if (at_ + 1 >= source_.size()) return copy(1);
    const char kind = source_[at_ + 1];
    if (kind == 'w' || kind == 'W') {
      put(regex_word_characters().ranges(), kind == 'W');
      at_ += 2;
    } else if (kind == 'd' || kind == 'D') {
      put(ranges_of(mask_of(Category::kNd)), kind == 'D');
      at_ += 2;
    } else if ((kind == 'p' || kind == 'P') && source_.compare(at_ + 2, 1, "{") == 0) {
      property(kind == 'P');
    } else {
      copy(2);
    }
  }

  void property(bool negated) {
    const std::size_t end = source_.find('}', at_);
    if (end == std::string_view::npos) return copy(2);
    std::string_view name = source_.substr(at_ + 3, end - at_ - 3);
    if (!name.empty() && name[0] == '^') {
      negated = !negated;
      name.remove_prefix(1);
    }
    const auto mask = property_mask(name);
    if (!mask) return copy(end + 1 - at_);
    put(ranges_of(*mask), negated);
    at_ = end + 1;
  }

  // Inside brackets a class may stand nested; plain members need no brackets of their own there.
  void put(const std::vector<PointRange>& ranges, bool negated) {
    if (depth_ > 0 && !negated) {
      out_ += spell(ranges);
    } else {
      out_ += (negated ? "[^" : "[") + spell(ranges) + "]";
    }
  }

  std::string_view source_;
  std::size_t at_ = 0;
  int depth_ = 0;
  std::string out_;
};

}  // namespace

std::string with_unicode_classes(std::string_view source) { return Rewrite(source).run(); }

}  // namespace headway::text
