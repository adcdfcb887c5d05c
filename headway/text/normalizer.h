// The `normalizer` section: what changes characters before anything is cut.
// Not for: cutting (pre_tokenizer.h).
#pragma once

#include <memory>
#include <string>
#include <variant>
#include <vector>

#include "headway/text/document.h"
#include "headway/text/json_node.h"
#include "headway/text/normal_form.h"
#include "headway/text/pattern.h"

namespace headway::text {

struct NormalFormNormalizer {
  NormalForm form;
};
struct LowercaseNormalizer {};
struct StripNormalizer {
  bool left;
  bool right;
};
struct StripAccentsNormalizer {};
struct ReplaceNormalizer {
  Pattern pattern;
  std::string content;
};
struct PrependNormalizer {
  std::string content;
};
struct ByteLevelNormalizer {};
struct NmtNormalizer {};
struct BertNormalizer {
  bool clean_text;
  bool pad_chinese;
  bool strip_accents;
  bool lowercase;
};

using Normalizer = std::variant<NormalFormNormalizer, LowercaseNormalizer, StripNormalizer,
                                StripAccentsNormalizer, ReplaceNormalizer, PrependNormalizer,
                                ByteLevelNormalizer, NmtNormalizer, BertNormalizer>;

/// The steps of the section in order, Sequences flattened; an absent section has none.
/// Errors: CheckpointError (wrong value), UnsupportedError (a type this build has not).
std::vector<Normalizer> parse_normalizer(const JsonNode& node);

/// Applies the steps to every piece of `document` that is no added token, each on its own.
/// Test: tests/unit/text/normalizer_test.cpp
void normalize(const std::vector<Normalizer>& steps, Document& document);

/// What the steps make of a text by itself.
std::string normalized(const std::vector<Normalizer>& steps, std::string_view text);

}  // namespace headway::text
