// Dispatch over model types, the cache, and cutting long pieces where no token can cross.
// Not for: the models themselves.
#include "headway/text/model.h"

#include "headway/text/unicode.h"

namespace headway::text {
namespace {

std::string infer_type(const JsonNode& node) {
  const auto& value = node.value();
  if (value.contains("merges")) return "BPE";
  if (value.contains("max_input_chars_per_word")) return "WordPiece";
  if (value.contains("vocab") && value["vocab"].is_array()) return "Unigram";
  return "WordLevel";
}

void tokenize_uncached(const Model& model, std::string_view piece, bool byte_level,
                       ModelScratch& scratch, std::vector<Token>& out) {
  if (const auto* bpe = std::get_if<BpeModel>(&model)) {
    bpe->tokenize(piece, byte_level, scratch.bpe, out);
  } else if (const auto* word_piece = std::get_if<WordPieceModel>(&model)) {
    word_piece->tokenize(piece, out);
  } else if (const auto* unigram = std::get_if<UnigramModel>(&model)) {
    unigram->tokenize(piece, scratch.unigram, out);
  } else {
    std::get<WordLevelModel>(model).tokenize(piece, out);
  }
}

void tokenize_cached(const Model& model, std::string_view piece, bool byte_level,
                     ModelScratch& scratch, std::vector<Token>& out) {
  if (piece.size() > WordCache::kLongestPiece) {
    return tokenize_uncached(model, piece, byte_level, scratch, out);
  }
  WordCache::Slot& slot = scratch.cache.slot_of(piece);
  if (WordCache::holds(slot, piece)) {
    for (std::size_t i = 0; i < slot.count; ++i) {
      out.push_back({slot.ids[i], slot.begins[i], slot.ends[i]});
    }
    return;
  }
  const std::size_t first = out.size();
  tokenize_uncached(model, piece, byte_level, scratch, out);
  const std::size_t count = out.size() - first;
  if (count <= WordCache::kMostTokens) WordCache::fill(slot, piece, out.data() + first, count);
}

// The end of the part of `piece` that begins at `at`: before the next word marker or space that no
// token crosses.
std::size_t next_cut(const BpeModel& model, std::string_view piece, std::size_t at) {
  std::size_t end = at + decode_point(piece, at).length;
  while (end < piece.size()) {
    const auto byte = static_cast<unsigned char>(piece[end]);
    const bool marker = byte == ' ' || (byte == 0xE2 && piece.substr(end, 3) == "\xE2\x96\x81");
    if (marker) {
      const char32_t before = decode_point(piece, end - length_before(piece, end)).point;
      if (model.may_cut(before, decode_point(piece, end).point)) return end;
    }
    end += byte < 0x80 ? 1 : decode_point(piece, end).length;
  }
  return end;
}

}  // namespace

void WordCache::fill(Slot& slot, std::string_view piece, const Token* tokens, std::size_t count) {
  std::memcpy(slot.piece, piece.data(), piece.size());
  slot.size = static_cast<std::uint8_t>(piece.size());
  slot.count = static_cast<std::uint8_t>(count);
  for (std::size_t i = 0; i < count; ++i) {
    slot.ids[i] = tokens[i].id;
    slot.begins[i] = static_cast<std::uint8_t>(tokens[i].begin);
    slot.ends[i] = static_cast<std::uint8_t>(tokens[i].end);
  }
}

Model parse_model(const JsonNode& node) {
  node.require_object();
  const auto named = node.string_or_none("type");
  const std::string type = named ? *named : infer_type(node);
  if (type == "BPE") return BpeModel(node);
  if (type == "WordPiece") return WordPieceModel(node);
  if (type == "WordLevel") return WordLevelModel(node);
  if (type == "Unigram") return UnigramModel(node);
  node.at("type").unsupported("not built, allowed BPE, WordPiece, WordLevel, Unigram");
}

const Vocabulary& vocabulary_of(const Model& model) {
  return std::visit([](const auto& kind) -> const Vocabulary& { return kind.vocabulary(); }, model);
}

void tokenize_piece(const Model& model, std::string_view piece, bool byte_level,
                    ModelScratch& scratch, std::vector<Token>& out) {
  const auto* bpe = std::get_if<BpeModel>(&model);
  if (bpe == nullptr || byte_level || piece.size() <= WordCache::kLongestPiece) {
    return tokenize_cached(model, piece, byte_level, scratch, out);
  }
  for (std::size_t at = 0; at < piece.size();) {
    const std::size_t end = next_cut(*bpe, piece, at);
    const std::size_t first = out.size();
    tokenize_cached(model, piece.substr(at, end - at), byte_level, scratch, out);
    for (std::size_t i = first; i < out.size(); ++i) {
      out[i].begin += static_cast<std::uint32_t>(at);
      out[i].end += static_cast<std::uint32_t>(at);
    }
    at = end;
  }
}

}  // namespace headway::text
