// Byte pair encoding: a piece as characters or bytes, then merges in order of rank.
// Not for: caching pieces (word_cache.h) or learning merges (bpe_trainer.h).
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_set>
#include <vector>

#include "headway/text/json_node.h"
#include "headway/text/vocabulary.h"

namespace headway::text {

/// (left id, right id) -> rank and merged id. Open addressing on the pair.
class MergeTable {
 public:
  struct Merge {
    std::uint32_t rank;
    std::uint32_t id;
  };
  void reserve(std::size_t count);
  /// A pair given again takes the new rank.
  void set(std::uint32_t left, std::uint32_t right, Merge merge);
  /// nullptr: the two do not merge.
  const Merge* find(std::uint32_t left, std::uint32_t right) const {
    const std::uint64_t key = std::uint64_t{left} << 32 | right;
    for (std::size_t slot = slot_of(key);; slot = (slot + 1) & mask_) {
      const Slot& entry = slots_[slot];
      if (entry.key == key) return &entry.merge;
      if (entry.key == kFree) return nullptr;
    }
  }

 private:
  static constexpr std::uint64_t kFree = ~std::uint64_t{0};
  struct Slot {
    std::uint64_t key = kFree;
    Merge merge{};
  };
  std::size_t slot_of(std::uint64_t key) const {
    key *= 0x9E3779B97F4A7C15u;
    return (key ^ key >> 31) & mask_;
  }
  std::vector<Slot> slots_{Slot{}};
  std::size_t mask_ = 0;
};

class BpeModel {
 public:
  /// The `model` object of type BPE. Errors: CheckpointError naming the merge or key.
  explicit BpeModel(const JsonNode& node);

  struct Symbol {
    std::uint32_t id;
    std::uint32_t begin;
    std::uint32_t length;
    std::int32_t previous;
    std::int32_t next;
    std::uint32_t end() const { return begin + length; }
  };
  struct Entry {
    std::uint32_t rank;
    std::uint32_t id;
    std::uint32_t position;
  };
  struct Scratch {
    std::vector<Symbol> symbols;
    std::vector<Entry> heap;
    std::string spelled;
    std::uint32_t position = 0;
  };

  /// Appends the tokens of `piece`, which is not empty; spans count bytes of `piece`. With
  /// `byte_level` every byte stands for its character of the byte alphabet. O(n log n).
  /// Errors: CheckpointError if a token is unknown and so is unk_token.
  void tokenize(std::string_view piece, bool byte_level, Scratch& scratch,
                std::vector<Token>& out) const;

  /// True if no token can span the border between two characters of a piece, so that the parts may
  /// be tokenized one by one. `before` is the last character of the left part.
  bool may_cut(char32_t before, char32_t after) const;

  const Vocabulary& vocabulary() const { return vocabulary_; }
  const std::string& file() const { return file_; }

 private:
  void read_merges(const JsonNode& node);
  void prepare_bytes();
  void prepare_cuts();
  void add_symbol(Scratch& scratch, std::uint32_t id, std::uint32_t length) const;
  void fill_from_bytes(std::string_view piece, Scratch& scratch) const;
  void fill_from_characters(std::string_view piece, bool byte_level, Scratch& scratch) const;
  bool add_bytes(std::string_view spelled, Scratch& scratch) const;
  std::uint32_t unknown_id() const;
  void merge_short(std::vector<Symbol>& symbols) const;
  void merge_long(Scratch& scratch) const;

  std::string file_;
  Vocabulary vocabulary_;
  MergeTable merges_;
  std::vector<std::uint32_t> merged_ids_;
  std::string unknown_;
  std::string prefix_;
  std::string suffix_;
  bool has_unknown_ = false;
  bool fuse_unknown_ = false;
  bool byte_fallback_ = false;
  bool ignore_merges_ = false;
  bool merges_text_only_ = true;  // no merge involves unk or byte tokens
  bool cuts_allowed_ = false;
  bool plain_bytes_ = false;  // every byte has a token, none has prefix or suffix
  StringTable raw_tokens_;    // for byte_level: bytes -> id
  std::array<std::optional<std::uint32_t>, 256> byte_ids_;      // of alphabet characters
  std::array<std::optional<std::uint32_t>, 256> fallback_ids_;  // of "<0xHH>"
  std::unordered_set<std::uint64_t> joined_;  // character pairs inside merged tokens
};

}  // namespace headway::text
