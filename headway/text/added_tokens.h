// The `added_tokens` section: tokens that are looked for in the text before the model sees it.
// Not for: special ids of a model (special_ids.h) or templates (post_processor.h).
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "headway/text/document.h"
#include "headway/text/json_node.h"
#include "headway/text/normalizer.h"
#include "headway/text/vocabulary.h"

namespace headway::text {

struct AddedToken {
  std::string content;
  bool single_word = false;
  bool lstrip = false;
  bool rstrip = false;
  bool normalized = true;
  bool special = false;
  bool operator==(const AddedToken&) const = default;

  /// The flags and content of an object; `id` is not read here.
  static AddedToken from_json(const JsonNode& node);
};

/// A set of byte strings; finds the longest that begins at a place.
class TokenTrie {
 public:
  void insert(std::string_view key, std::uint32_t value);
  struct Match {
    std::uint32_t end;
    std::uint32_t value;
  };
  std::optional<Match> longest(std::string_view text, std::uint32_t at) const;
  /// The first place at or after `at` where a key may begin.
  std::uint32_t next_start(std::string_view text, std::uint32_t at) const;
  bool empty() const { return nodes_.size() <= 1; }

 private:
  struct Node {
    std::vector<std::pair<unsigned char, std::uint32_t>> children;  // sorted by byte
    std::uint32_t value = kNoToken;
  };
  std::vector<Node> nodes_{Node{}};
  bool starts_[256] = {};
};

class AddedTokens {
 public:
  /// Adds tokens as the reference does: the id is that of the model's vocabulary if the content is
  /// there, else the next free one; what the file says is only compared. Call prepare() at the end.
  void add(const AddedToken& token, const Vocabulary& vocabulary);
  /// Builds the search structures.
  void prepare(const std::vector<Normalizer>& normalizer);

  /// Cuts added tokens out of the pieces of `document`: those that are matched in the text as it
  /// came (`normalized` false), or those matched after the normalizer.
  void extract(Document& document, bool normalized) const;

  std::optional<std::uint32_t> id_of(std::string_view content) const;
  /// nullptr: no added token has this id.
  const AddedToken* token_of(std::int64_t id) const;
  /// What the token reads in decoded text: its content, normalised if it is matched so.
  const std::string* spelling_of(std::int64_t id) const;
  bool contains(const AddedToken& token) const;
  bool is_special(std::string_view content) const;
  /// One more than the largest id, 0 if there is none.
  std::size_t id_limit() const { return by_id_.empty() ? 0 : by_id_.rbegin()->first + 1; }
  const std::map<std::uint32_t, AddedToken>& by_id() const { return by_id_; }

 private:
  void cut_piece(const Document& document, const Piece& piece, const TokenTrie& trie,
                 std::vector<Piece>& out) const;

  std::unordered_map<std::string, std::uint32_t> ids_;
  std::map<std::uint32_t, AddedToken> by_id_;
  std::map<std::uint32_t, std::string> spellings_;
  std::vector<AddedToken> plain_;  // in order of arrival
  std::vector<AddedToken> special_;
  std::unordered_set<std::string> special_contents_;
  TokenTrie raw_trie_;
  TokenTrie normalized_trie_;
};

}  // namespace headway::text
