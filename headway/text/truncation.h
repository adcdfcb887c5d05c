// The `truncation` and `padding` sections, for those who ask for texts of a fixed length.
// Not for: training data, which is packed and never cut by the tokenizer.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "headway/text/json_node.h"
#include "headway/text/tokenizer.h"

namespace headway::text {

enum class Side : std::uint8_t { kLeft, kRight };
enum class TruncationStrategy : std::uint8_t { kLongestFirst, kOnlyFirst, kOnlySecond };

struct Truncation {
  Side direction = Side::kRight;  // where tokens are cut off
  std::size_t max_length = 0;     // special tokens included
  TruncationStrategy strategy = TruncationStrategy::kLongestFirst;
  std::size_t stride = 0;  // tokens that neighbouring windows share
};

struct Padding {
  std::optional<std::size_t> fixed;  // none: as long as the longest
  Side direction = Side::kRight;     // where padding goes
  std::size_t multiple_of = 0;       // 0: any length
  std::int64_t id = 0;
};

/// Errors: CheckpointError, also if max_length leaves fewer than `stride` tokens beside
/// `special_tokens`.
Truncation parse_truncation(const JsonNode& node, std::size_t special_tokens);
Padding parse_padding(const JsonNode& node);

/// `encoding` in windows of max_length - special_tokens: first what stays, then what was cut off,
/// each window beginning stride tokens before the last one ended.
/// Errors: ConfigError if a window has no room for more than `stride` tokens.
std::vector<Encoding> truncate(const Truncation& truncation, const Encoding& encoding,
                               std::size_t special_tokens);

/// Lengths to which a pair of `first` and `second` tokens is cut, to be `length` together.
struct PairLengths {
  std::size_t first;
  std::size_t second;
};
/// LongestFirst: the shorter keeps min(its length, length / 2), the longer the rest.
/// Errors: ConfigError if the strategy cannot cut enough.
PairLengths truncated_pair(const Truncation& truncation, PairLengths lengths,
                           std::size_t special_tokens);

/// Pads every encoding to the length of the longest, or to the fixed one, and to the multiple.
void pad(const Padding& padding, std::vector<Encoding>& encodings);

}  // namespace headway::text
