// Hand-written matchers for the patterns of published tokenizers, an order of magnitude faster than
// a regular expression engine. One is chosen only by the exact text of a pattern.
// Not for: other patterns (pattern.h). Equality with the engine: tests/property/text.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "headway/text/pattern.h"

namespace headway::text {

/// Appends the stretches of `text`, as Pattern::stretches would.
using SplitScanner = void (*)(std::string_view text, std::vector<Stretch>& out);

struct KnownPattern {
  std::string_view name;
  std::string_view pattern;
  SplitScanner scanner;
};

std::span<const KnownPattern> known_patterns();

/// The scanner of `pattern`, or null.
SplitScanner find_scanner(std::string_view pattern);

/// The pattern that byte-level pre-tokenizers use by themselves.
extern const std::string_view kGpt2Pattern;

}  // namespace headway::text
