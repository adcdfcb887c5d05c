// The `post_processor` section: special tokens around a text, offsets trimmed of white space.
// Not for: truncation and padding (truncation.h).
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "headway/text/json_node.h"
#include "headway/text/tokenizer.h"

namespace headway::text {

/// Moves the ends of offsets over white space that a token holds.
struct TrimOffsetsStep {
  bool add_prefix_space;
};

/// One item of a template: the text itself, or ids.
struct TemplateItem {
  bool is_sequence;
  char sequence = 'A';  // 'A' or 'B'
  std::vector<std::int64_t> ids;
};
struct TemplateStep {
  std::vector<TemplateItem> single;
  std::vector<TemplateItem> pair;
};

using PostProcessor = std::variant<TrimOffsetsStep, TemplateStep>;

/// The steps of the section in order, Sequences flattened; BertProcessing and RobertaProcessing
/// become templates. Errors: CheckpointError, UnsupportedError.
std::vector<PostProcessor> parse_post_processor(const JsonNode& node);

/// Spelling of the i-th token of the text.
using TokenSpelling = std::function<std::string_view(std::size_t)>;

/// Trims the offsets of `encoding` where a step says so.
void trim_offsets(const std::vector<PostProcessor>& steps, const TokenSpelling& spelling,
                  std::vector<Offset>& offsets);
/// True if a step trims.
bool trims_offsets(const std::vector<PostProcessor>& steps);

/// `encoding` with the special tokens of a single text around it, offsets [0,0].
Encoding add_special_tokens(const std::vector<PostProcessor>& steps, Encoding encoding);
/// The same for two texts; without a template they follow each other.
Encoding join_pair(const std::vector<PostProcessor>& steps, const Encoding& first,
                   const Encoding& second, bool add_special);
/// How many tokens add_special_tokens (pair: join_pair) adds.
std::size_t count_special_tokens(const std::vector<PostProcessor>& steps, bool pair);

}  // namespace headway::text
