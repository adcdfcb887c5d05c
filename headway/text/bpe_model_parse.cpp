// A BPE model from JSON, every merge checked.
// Not for: tokenizing (bpe_model.cpp).
#include <algorithm>

#include <fmt/format.h>

#include "headway/text/bpe_model.h"
#include "headway/text/byte_alphabet.h"
#include "headway/text/unicode.h"

namespace headway::text {
namespace {

struct MergeParts {
  std::string left;
  std::string right;
};

MergeParts parts_of(const JsonNode& node) {
  if (node.is_array()) {
    node.require_list(2);
    return {node.at(std::size_t{0}).string(), node.at(std::size_t{1}).string()};
  }
  if (!node.is_string()) node.fail("\"a b\" or [\"a\", \"b\"]");
  const std::string text = node.string();
  const std::size_t space = text.find(' ');
  if (space == std::string::npos || space == 0 || space + 1 == text.size() ||
      text.find(' ', space + 1) != std::string::npos) {
    node.fail("two tokens with one space between");
  }
  return {text.substr(0, space), text.substr(space + 1)};
}

std::uint32_t require_token(const Vocabulary& vocabulary, const std::string& token,
                            const JsonNode& merge) {
  const auto id = vocabulary.id_of(token);
  if (!id) merge.fail(fmt::format("tokens of model.vocab; \"{}\" is not there", token));
  return *id;
}

bool is_byte_token(std::string_view token) {
  return token.size() == 6 && token.starts_with("<0x") && token.ends_with(">");
}

}  // namespace

BpeModel::BpeModel(const JsonNode& node) : file_(node.file()) {
  vocabulary_ = Vocabulary::from_mapping(node.at("vocab"));
  if (const auto dropout = node.find("dropout")) {
    const double probability = dropout->number();
    if (!(probability >= 0 && probability <= 1)) dropout->fail("a number in [0, 1]");
    if (probability > 0) {
      dropout->unsupported("random merges are not built, allowed null or 0");
    }
  }
  const auto unknown = node.string_or_none("unk_token");
  has_unknown_ = unknown.has_value();
  unknown_ = unknown.value_or("");
  prefix_ = node.string_or_none("continuing_subword_prefix").value_or("");
  suffix_ = node.string_or_none("end_of_word_suffix").value_or("");
  fuse_unknown_ = node.boolean_or("fuse_unk", false);
  byte_fallback_ = node.boolean_or("byte_fallback", false);
  ignore_merges_ = node.boolean_or("ignore_merges", false);
  prepare_bytes();
  read_merges(node.at("merges"));
  prepare_cuts();
}

void BpeModel::read_merges(const JsonNode& node) {
  node.require_list();
  if (node.size() > 2 * kLargestVocabulary) {
    node.fail(fmt::format("at most {} merges", 2 * kLargestVocabulary));
  }
  merges_.reserve(node.size());
  merged_ids_.reserve(node.size());
  std::uint32_t rank = 0;
  for (std::size_t i = 0; i < node.size(); ++i) {
    const JsonNode merge = node.at(i);
    if (merge.is_string() != node.at(std::size_t{0}).is_string()) {
      merge.fail("one kind of merge: all \"a b\" or all [\"a\", \"b\"]");
    }
    if (merge.is_string() && merge.string().starts_with("#version")) continue;
    const MergeParts parts = parts_of(merge);
    const std::uint32_t left = require_token(vocabulary_, parts.left, merge);
    const std::uint32_t right = require_token(vocabulary_, parts.right, merge);
    if (parts.right.size() < prefix_.size()) {
      merge.fail(fmt::format("a right side that begins with \"{}\"", prefix_));
    }
    const std::uint32_t merged =
        require_token(vocabulary_, parts.left + parts.right.substr(prefix_.size()), merge);
    merges_.set(left, right, {rank++, merged});
    merged_ids_.push_back(merged);
    if (byte_fallback_ && (is_byte_token(parts.left) || is_byte_token(parts.right))) {
      merges_text_only_ = false;
    }
    if (has_unknown_ && (parts.left == unknown_ || parts.right == unknown_)) {
      merges_text_only_ = false;
    }
  }
}

void BpeModel::prepare_bytes() {
  for (int byte = 0; byte < 256; ++byte) {
    const auto index = static_cast<std::size_t>(byte);
    byte_ids_[index] = vocabulary_.id_of(byte_to_utf8(static_cast<std::uint8_t>(byte)));
    fallback_ids_[index] = vocabulary_.id_of(fmt::format("<0x{:02X}>", byte));
  }
  plain_bytes_ = prefix_.empty() && suffix_.empty() &&
                 std::all_of(byte_ids_.begin(), byte_ids_.end(),
                             [](const auto& id) { return id.has_value(); });
  if (!ignore_merges_) return;
  raw_tokens_.reserve(vocabulary_.size());
  for (std::size_t id = 0; id < vocabulary_.id_limit(); ++id) {
    const std::string* token = vocabulary_.token_of(static_cast<std::int64_t>(id));
    if (token == nullptr) continue;
    if (const auto bytes = from_byte_alphabet(*token)) {
      raw_tokens_.insert(*bytes, *vocabulary_.id_of(*token));
    }
  }
}

void BpeModel::prepare_cuts() {
  cuts_allowed_ = merges_text_only_ && prefix_.empty() && suffix_.empty() && !ignore_merges_;
  if (!cuts_allowed_) return;
  for (const std::uint32_t id : merged_ids_) {
    const std::vector<char32_t> points = utf8_to_points(*vocabulary_.token_of(id));
    for (std::size_t i = 1; i < points.size(); ++i) {
      joined_.insert(std::uint64_t{points[i - 1]} << 32 | points[i]);
    }
  }
  merged_ids_.clear();
  merged_ids_.shrink_to_fit();
}

}  // namespace headway::text
