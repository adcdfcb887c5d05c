// The `pre_tokenizer` section: what cuts a text into the pieces that the model sees.
// Not for: searching (pattern.h, split_scanner.h) or added tokens (added_tokens.h).
#pragma once

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "headway/text/document.h"
#include "headway/text/json_node.h"
#include "headway/text/pattern.h"
#include "headway/text/split_scanner.h"

namespace headway::text {

/// What becomes of a match: a piece of its own, nothing, or a part of a neighbour.
enum class SplitBehavior : std::uint8_t {
  kRemoved,
  kIsolated,
  kMergedWithPrevious,
  kMergedWithNext,
  kContiguous,
};

struct SplitStep {
  Pattern pattern;
  SplitScanner scanner;  // null: the pattern itself; else the pattern is empty
  SplitBehavior behavior;
  bool invert;
};
struct ByteLevelStep {
  bool add_prefix_space;
  bool use_regex;
};
enum class PrependScheme : std::uint8_t { kAlways, kFirst, kNever };
struct MetaspaceStep {
  std::string replacement;
  PrependScheme prepend;
  bool split;
};
struct DigitsStep {
  bool individual;
};
struct PunctuationStep {
  SplitBehavior behavior;
};
struct WhitespaceStep {};       // words and runs of other characters, white space removed
struct WhitespaceSplitStep {};  // white space removed
struct BertStep {};
struct CharDelimiterStep {
  char32_t delimiter;
};
struct FixedLengthStep {
  std::uint32_t length;
};

using PreTokenizer =
    std::variant<SplitStep, ByteLevelStep, MetaspaceStep, DigitsStep, PunctuationStep,
                 WhitespaceStep, WhitespaceSplitStep, BertStep, CharDelimiterStep, FixedLengthStep>;

/// The steps of the section in order, Sequences flattened.
/// Errors: CheckpointError (wrong value), UnsupportedError (a type this build has not).
std::vector<PreTokenizer> parse_pre_tokenizer(const JsonNode& node);

/// The replacement, scheme and split flag of a Metaspace object; its decoder reads the same.
MetaspaceStep parse_metaspace(const JsonNode& node);

/// Cuts the pieces of `document` that are no added tokens. Test: tests/unit/text
void pre_tokenize(const std::vector<PreTokenizer>& steps, Document& document);

/// The byte alphabet is applied on the fly by the model; whoever looks at characters after a
/// ByteLevel step needs them written out.
void write_byte_alphabet(Document& document);

/// True if a step asks where in the original a piece begins.
bool asks_for_origin(const std::vector<PreTokenizer>& steps);

/// Appends `stretches` merged as `behavior` says: is_match is true for what is to be removed.
void merge_stretches(const std::vector<Stretch>& stretches, SplitBehavior behavior,
                     std::vector<Stretch>& out);

}  // namespace headway::text
