// What Split and Replace search for: a literal, or a regular expression of the Oniguruma dialect
// with the reference's Unicode tables. Not for: cutting pieces (pre_tokenizer.h) or the fast
// scanners of known patterns (split_scanner.h).
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "headway/text/document.h"
#include "headway/text/json_node.h"

namespace headway::text {

/// A stretch of a text: a match, or what lies between matches.
struct Stretch {
  Span span;
  bool is_match;
};

/// Cuts `text` into matches and what lies between; together they cover it. An empty match right
/// after a match does not count. Spans are relative to `text`.
class Pattern {
 public:
  /// Matches exactly `literal`; an empty one matches between any two characters.
  static Pattern literal(std::string literal);
  /// `source` in Oniguruma's Ruby syntax. Throws through `where` if it does not compile.
  static Pattern regex(const std::string& source, const JsonNode& where);
  /// {"String": …} or {"Regex": …}, or a plain string (a literal).
  static Pattern from_json(const JsonNode& node);

  /// Appends the stretches of `text`. Thread-safe. Errors: ConfigError if a regular expression
  /// gives up on this text (too many retries).
  void stretches(std::string_view text, std::vector<Stretch>& out) const;

  const std::string& source() const { return source_; }
  bool is_regex() const { return compiled_ != nullptr; }

 private:
  struct Compiled;

  std::string source_;
  std::shared_ptr<const Compiled> compiled_;  // null: a literal
};

/// `source` with \p{..}, \w and \d spelled out by Unicode 16 tables, which Oniguruma of this
/// machine may not have. Test: tests/unit/text/pattern_test.cpp
std::string with_unicode_classes(std::string_view source);

}  // namespace headway::text
