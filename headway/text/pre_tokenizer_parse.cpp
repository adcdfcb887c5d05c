// From JSON to pre-tokenizer steps.
// Not for: what they do (pre_tokenizer.cpp).
#include <array>
#include <utility>

#include "headway/text/pre_tokenizer.h"

namespace headway::text {
namespace {

SplitBehavior parse_behavior(const JsonNode& node) {
  static constexpr std::array<std::pair<std::string_view, SplitBehavior>, 5> kNames{{
      {"Removed", SplitBehavior::kRemoved},
      {"Isolated", SplitBehavior::kIsolated},
      {"MergedWithPrevious", SplitBehavior::kMergedWithPrevious},
      {"MergedWithNext", SplitBehavior::kMergedWithNext},
      {"Contiguous", SplitBehavior::kContiguous},
  }};
  const std::string name = node.string();
  for (const auto& [known, behavior] : kNames) {
    if (known == name) return behavior;
  }
  node.fail("Removed, Isolated, MergedWithPrevious, MergedWithNext, Contiguous");
}

SplitStep parse_split(const JsonNode& node) {
  const JsonNode pattern = node.at("pattern");
  SplitScanner scanner = nullptr;
  if (pattern.is_object() && pattern.size() == 1) {
    if (const auto regex = pattern.find("Regex")) scanner = find_scanner(regex->string());
  }
  return {scanner != nullptr ? Pattern() : Pattern::from_json(pattern), scanner,
          parse_behavior(node.at("behavior")), node.at("invert").boolean()};
}

PrependScheme parse_scheme(const JsonNode& node) {
  const std::string name = node.string();
  if (name == "always") return PrependScheme::kAlways;
  if (name == "first") return PrependScheme::kFirst;
  if (name == "never") return PrependScheme::kNever;
  node.fail("always, first, never");
}

void parse_into(const JsonNode& node, std::vector<PreTokenizer>& steps) {
  const std::string type = node.at("type").string();
  if (type == "Sequence") {
    const JsonNode list = node.at("pretokenizers");
    list.require_list();
    for (std::size_t i = 0; i < list.size(); ++i) parse_into(list.at(i), steps);
  } else if (type == "Split") {
    steps.push_back(parse_split(node));
  } else if (type == "ByteLevel") {
    node.at("trim_offsets").boolean();  // of the post-processor; here it has no effect
    steps.push_back(
        ByteLevelStep{node.at("add_prefix_space").boolean(), node.boolean_or("use_regex", true)});
  } else if (type == "Metaspace") {
    steps.push_back(parse_metaspace(node));
  } else if (type == "Digits") {
    steps.push_back(DigitsStep{node.at("individual_digits").boolean()});
  } else if (type == "Punctuation") {
    const auto behavior = node.find("behavior");
    steps.push_back(
        PunctuationStep{behavior ? parse_behavior(*behavior) : SplitBehavior::kIsolated});
  } else if (type == "Whitespace") {
    steps.push_back(WhitespaceStep{});
  } else if (type == "WhitespaceSplit") {
    steps.push_back(WhitespaceSplitStep{});
  } else if (type == "BertPreTokenizer") {
    steps.push_back(BertStep{});
  } else if (type == "CharDelimiterSplit" || type == "Delimiter") {
    steps.push_back(CharDelimiterStep{node.at("delimiter").character()});
  } else if (type == "FixedLength") {
    const auto length = node.find("length");
    steps.push_back(
        FixedLengthStep{length ? static_cast<std::uint32_t>(length->integer(1, 1 << 30)) : 5u});
  } else {
    node.at("type").unsupported(
        "not built, allowed Sequence, Split, ByteLevel, Metaspace, Digits, Punctuation, "
        "Whitespace, WhitespaceSplit, BertPreTokenizer, CharDelimiterSplit, FixedLength");
  }
}

}  // namespace

MetaspaceStep parse_metaspace(const JsonNode& node) {
  MetaspaceStep step{point_to_utf8(node.at("replacement").character()), PrependScheme::kAlways,
                     node.boolean_or("split", true)};
  const auto scheme = node.find("prepend_scheme");
  if (scheme) step.prepend = parse_scheme(*scheme);
  const auto legacy = node.find("add_prefix_space");
  if (legacy && !legacy->boolean()) {
    if (scheme && step.prepend != PrependScheme::kNever) {
      legacy->fail("true, since prepend_scheme is not \"never\"");
    }
    step.prepend = PrependScheme::kNever;
  }
  return step;
}

std::vector<PreTokenizer> parse_pre_tokenizer(const JsonNode& node) {
  std::vector<PreTokenizer> steps;
  parse_into(node, steps);
  return steps;
}

}  // namespace headway::text
