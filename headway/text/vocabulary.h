// Tokens by spelling and by id.
// Not for: added tokens (added_tokens.h), nor for how text becomes tokens (model.h).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "headway/text/json_node.h"

namespace headway::text {

/// Immutable map from short strings to numbers: open addressing, spellings in one block.
class StringTable {
 public:
  void reserve(std::size_t count);
  /// False if `key` is there already (the table is unchanged).
  bool insert(std::string_view key, std::uint32_t value);
  std::optional<std::uint32_t> find(std::string_view key) const;
  std::size_t size() const { return entries_.size(); }

 private:
  struct Entry {
    std::uint64_t begin;
    std::uint32_t length;
    std::uint32_t value;
    std::uint64_t hash;
  };
  void grow();

  std::string spellings_;
  std::vector<Entry> entries_;
  std::vector<std::uint32_t> slots_;  // index + 1; 0: free
};

std::uint64_t hash_bytes(std::string_view bytes);

/// A token of a piece: its id and the bytes of the piece it stands for.
struct Token {
  std::uint32_t id;
  std::uint32_t begin;
  std::uint32_t end;
  bool operator==(const Token&) const = default;
};

/// The `vocab` of a model: ids need not be dense. When two tokens share an id, the spelling of the
/// id is the last one in sorted order.
class Vocabulary {
 public:
  /// {token: id}. Errors: CheckpointError (no mapping, id not an integer or too large, too many).
  static Vocabulary from_mapping(const JsonNode& node);
  /// Tokens with ids 0, 1, …; of equal ones the last keeps the id.
  static Vocabulary from_list(const std::vector<std::string>& tokens);

  std::optional<std::uint32_t> id_of(std::string_view token) const { return table_.find(token); }
  /// nullptr: no token has this id.
  const std::string* token_of(std::int64_t id) const;
  /// Number of tokens, as the reference counts them to give new tokens their ids.
  std::size_t size() const { return count_; }
  /// One more than the largest id.
  std::size_t id_limit() const { return tokens_.size(); }

 private:
  StringTable table_;
  std::vector<std::optional<std::string>> tokens_;
  std::size_t count_ = 0;
};

}  // namespace headway::text
