// The `model` section, whatever its type, with a cache of pieces seen before.
// Not for: what happens before and after (json_tokenizer.h).
#pragma once

#include <array>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string_view>
#include <variant>
#include <vector>

#include "headway/text/bpe_model.h"
#include "headway/text/word_models.h"

namespace headway::text {

using Model = std::variant<BpeModel, WordPieceModel, WordLevelModel, UnigramModel>;

/// The model of a tokenizer.json; a missing `type` is inferred from the keys, as old files need.
/// Errors: CheckpointError, UnsupportedError.
Model parse_model(const JsonNode& node);

const Vocabulary& vocabulary_of(const Model& model);

/// Tokens of short pieces, one cache line each, overwritten on collision.
class WordCache {
 public:
  static constexpr std::size_t kLongestPiece = 20;
  static constexpr std::size_t kMostTokens = 7;

  struct Slot {
    char piece[kLongestPiece];
    std::uint8_t size = 0;  // 0: free
    std::uint8_t count;
    std::uint8_t begins[kMostTokens];
    std::uint8_t ends[kMostTokens];
    std::uint32_t ids[kMostTokens];
  };

  WordCache() : slots_(kSlots) {}
  /// The place of `piece`, 1 to kLongestPiece bytes long.
  Slot& slot_of(std::string_view piece) { return slots_[hash_bytes(piece) & (kSlots - 1)]; }
  static bool holds(const Slot& slot, std::string_view piece) {
    return slot.size == piece.size() && std::memcmp(slot.piece, piece.data(), piece.size()) == 0;
  }
  static void fill(Slot& slot, std::string_view piece, const Token* tokens, std::size_t count);

 private:
  static constexpr std::size_t kSlots = std::size_t{1} << 15;
  std::vector<Slot> slots_;
};

/// What one thread needs while it tokenizes.
struct ModelScratch {
  WordCache cache;
  BpeModel::Scratch bpe;
  UnigramModel::Scratch unigram;
};

/// Appends the tokens of `piece` (not empty), spans relative to it. byte_level: see BpeModel; other
/// models need the alphabet written out.
void tokenize_piece(const Model& model, std::string_view piece, bool byte_level,
                    ModelScratch& scratch, std::vector<Token>& out);

}  // namespace headway::text
