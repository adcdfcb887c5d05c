// Windows and padding.
// Not for: when to apply them (JsonTokenizer::encode_padded).
#include "headway/text/truncation.h"

#include <algorithm>

#include <fmt/format.h>

#include "headway/base/error.h"

namespace headway::text {
namespace {

constexpr std::int64_t kLongest = std::int64_t{1} << 40;

Side parse_side(const JsonNode& node) {
  const std::string name = node.string();
  if (name == "Left") return Side::kLeft;
  if (name == "Right") return Side::kRight;
  node.fail("Left, Right");
}

TruncationStrategy parse_strategy(const JsonNode& node) {
  const std::string name = node.string();
  if (name == "LongestFirst") return TruncationStrategy::kLongestFirst;
  if (name == "OnlyFirst") return TruncationStrategy::kOnlyFirst;
  if (name == "OnlySecond") return TruncationStrategy::kOnlySecond;
  node.fail("LongestFirst, OnlyFirst, OnlySecond");
}

Encoding slice(const Encoding& encoding, std::size_t begin, std::size_t end) {
  const auto from = static_cast<std::ptrdiff_t>(begin);
  const auto to = static_cast<std::ptrdiff_t>(end);
  return {{encoding.ids.begin() + from, encoding.ids.begin() + to},
          {encoding.offsets.begin() + from, encoding.offsets.begin() + to}};
}

std::size_t room(const Truncation& truncation, std::size_t special_tokens) {
  if (truncation.max_length < special_tokens) {
    throw ConfigError(fmt::format(
        "[tokenizer] truncation.max_length = {}, allowed at least the {} special tokens",
        truncation.max_length, special_tokens));
  }
  return truncation.max_length - special_tokens;
}

}  // namespace

Truncation parse_truncation(const JsonNode& node, std::size_t special_tokens) {
  Truncation truncation;
  if (const auto direction = node.find("direction")) truncation.direction = parse_side(*direction);
  const JsonNode length = node.at("max_length");
  truncation.max_length = static_cast<std::size_t>(length.integer(0, kLongest));
  truncation.strategy = parse_strategy(node.at("strategy"));
  truncation.stride = static_cast<std::size_t>(node.at("stride").integer(0, kLongest));
  if (truncation.max_length < special_tokens + truncation.stride) {
    length.fail(fmt::format("at least stride + special tokens (= {} + {})", truncation.stride,
                            special_tokens));
  }
  return truncation;
}

Padding parse_padding(const JsonNode& node) {
  Padding padding;
  const JsonNode strategy = node.at("strategy");
  if (strategy.is_object()) {
    padding.fixed = static_cast<std::size_t>(strategy.at("Fixed").integer(0, kLargestTokenId));
  } else if (strategy.string() != "BatchLongest") {
    strategy.fail("BatchLongest, {\"Fixed\": n}");
  }
  padding.direction = parse_side(node.at("direction"));
  if (const auto multiple = node.find("pad_to_multiple_of")) {
    padding.multiple_of = static_cast<std::size_t>(multiple->integer(0, kLargestTokenId));
  }
  padding.id = node.at("pad_id").integer(0, kLargestTokenId);
  node.at("pad_type_id").integer(0, kLargestTokenId);
  node.at("pad_token").string();
  return padding;
}

std::vector<Encoding> truncate(const Truncation& truncation, const Encoding& encoding,
                               std::size_t special_tokens) {
  const std::size_t length = room(truncation, special_tokens);
  const std::size_t count = encoding.ids.size();
  if (count <= length) return {encoding};
  if (length == 0) return {Encoding{}, encoding};
  if (truncation.stride >= length) {
    throw ConfigError(fmt::format("[tokenizer] truncation.stride = {}, allowed less than {}",
                                  truncation.stride, length));
  }
  const std::size_t step = length - truncation.stride;
  std::vector<Encoding> windows;
  if (truncation.direction == Side::kRight) {
    for (std::size_t begin = 0;; begin += step) {
      const std::size_t end = std::min(begin + length, count);
      windows.push_back(slice(encoding, begin, end));
      if (end == count) return windows;
    }
  }
  for (std::size_t end = count;; end -= step) {
    const std::size_t begin = end > length ? end - length : 0;
    windows.push_back(slice(encoding, begin, end));
    if (begin == 0) return windows;
  }
}

PairLengths truncated_pair(const Truncation& truncation, PairLengths lengths,
                           std::size_t special_tokens) {
  const std::size_t length = room(truncation, special_tokens);
  const std::size_t total = lengths.first + lengths.second;
  if (total <= length) return lengths;
  const std::size_t excess = total - length;
  if (truncation.strategy == TruncationStrategy::kLongestFirst) {
    const bool swapped = lengths.first > lengths.second;
    const std::size_t shorter = std::min({lengths.first, lengths.second, length / 2});
    const std::size_t longer = length - shorter;
    return swapped ? PairLengths{longer, shorter} : PairLengths{shorter, longer};
  }
  std::size_t& cut =
      truncation.strategy == TruncationStrategy::kOnlyFirst ? lengths.first : lengths.second;
  if (cut <= excess) {
    throw ConfigError(fmt::format(
        "[tokenizer] truncation.max_length = {}: {} tokens must go, the sequence to cut has {}",
        truncation.max_length, excess, cut));
  }
  cut -= excess;
  return lengths;
}

void pad(const Padding& padding, std::vector<Encoding>& encodings) {
  std::size_t length = padding.fixed.value_or(0);
  if (!padding.fixed) {
    for (const Encoding& encoding : encodings) length = std::max(length, encoding.ids.size());
  }
  if (padding.multiple_of > 0 && length % padding.multiple_of != 0) {
    length += padding.multiple_of - length % padding.multiple_of;
  }
  for (Encoding& encoding : encodings) {
    if (encoding.ids.size() >= length) continue;
    const std::size_t missing = length - encoding.ids.size();
    const bool left = padding.direction == Side::kLeft;
    encoding.ids.insert(left ? encoding.ids.begin() : encoding.ids.end(), missing, padding.id);
    encoding.offsets.insert(left ? encoding.offsets.begin() : encoding.offsets.end(), missing,
                            Offset{});
  }
}

}  // namespace headway::text
