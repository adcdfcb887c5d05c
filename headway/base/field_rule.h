// What a config field may hold, as data: required, range, allowed names, divisor of a sibling.
// Light on purpose: every struct with a field list includes it. Not for: reading or writing
// (fields.h).
#pragma once

#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace headway {

/// Default-constructed: anything of the field's type, optional key. Doubles must always be finite.
/// For a list or map of numbers the range applies to every element.
struct Rule {
  bool is_required = false;
  bool is_not_empty = false;  // text, lists, maps
  std::optional<double> low;
  std::optional<double> high;
  bool low_open = false;                // low itself is not allowed
  bool high_open = false;               // high itself is not allowed
  std::vector<std::string_view> names;  // text fields: the allowed values
  std::string_view divisor_of;          // integer fields: must divide the sibling of this name

  Rule required() const {
    Rule rule = *this;
    rule.is_required = true;
    return rule;
  }
  Rule not_empty() const {
    Rule rule = *this;
    rule.is_not_empty = true;
    return rule;
  }
  Rule divides(std::string_view sibling) const {
    Rule rule = *this;
    rule.divisor_of = sibling;
    return rule;
  }
};

inline Rule at_least(double low) {
  Rule rule;
  rule.low = low;
  return rule;
}
inline Rule above(double low) {
  Rule rule = at_least(low);
  rule.low_open = true;
  return rule;
}
/// low <= value <= high.
inline Rule between(double low, double high) {
  Rule rule = at_least(low);
  rule.high = high;
  return rule;
}
/// low < value <= high.
inline Rule above_up_to(double low, double high) {
  Rule rule = between(low, high);
  rule.low_open = true;
  return rule;
}
/// low <= value < high.
inline Rule from_below(double low, double high) {
  Rule rule = between(low, high);
  rule.high_open = true;
  return rule;
}
inline Rule one_of(std::initializer_list<std::string_view> names) {
  Rule rule;
  rule.names = names;
  return rule;
}

/// ">= 1", "in (0, 1]", or "" without a range.
std::string range_text(const Rule& rule);

}  // namespace headway
