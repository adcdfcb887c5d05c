// WordPiece and WordLevel on one piece.
// Not for: Unigram (unigram_model.cpp).
#include "headway/text/word_models.h"

#include <algorithm>

#include <fmt/format.h>

#include "headway/base/error.h"
#include "headway/text/unicode.h"

namespace headway::text {
namespace {

Token unknown_token(const Vocabulary& vocabulary, const std::string& unknown,
                    const std::string& file, std::string_view piece) {
  const auto id = vocabulary.id_of(unknown);
  if (!id) {
    throw CheckpointError(fmt::format(
        "[{}] model.unk_token = \"{}\", allowed a token of model.vocab; hint: the text has words "
        "that the vocabulary has not",
        file, unknown));
  }
  return {*id, 0, static_cast<std::uint32_t>(piece.size())};
}

}  // namespace

WordPieceModel::WordPieceModel(const JsonNode& node)
    : file_(node.file()),
      vocabulary_(Vocabulary::from_mapping(node.at("vocab"))),
      unknown_(node.at("unk_token").string()),
      prefix_(node.at("continuing_subword_prefix").string()),
      max_characters_(node.at("max_input_chars_per_word").integer(0, INT32_MAX)) {
  for (std::size_t id = 0; id < vocabulary_.id_limit(); ++id) {
    const std::string* token = vocabulary_.token_of(static_cast<std::int64_t>(id));
    if (token != nullptr) longest_ = std::max(longest_, token->size());
  }
}

void WordPieceModel::tokenize(std::string_view piece, std::vector<Token>& out) const {
  const auto characters = std::count_if(piece.begin(), piece.end(), [](char byte) {
    return (static_cast<unsigned char>(byte) & 0xC0) != 0x80;
  });
  const std::size_t first = out.size();
  std::string spelled;
  std::size_t at = 0;
  bool covered = characters <= max_characters_;
  while (covered && at < piece.size()) {
    std::size_t end = std::min(piece.size(), at + longest_);
    while (end < piece.size() && (static_cast<unsigned char>(piece[end]) & 0xC0) == 0x80) --end;
    covered = false;
    while (end > at) {
      spelled.assign(at > 0 ? prefix_ : "");
      spelled.append(piece, at, end - at);
      if (const auto id = vocabulary_.id_of(spelled)) {
        out.push_back({*id, static_cast<std::uint32_t>(at), static_cast<std::uint32_t>(end)});
        covered = true;
        break;
      }
      end -= length_before(piece, end);
    }
    at = end;
  }
  if (covered) return;
  out.resize(first);
  out.push_back(unknown_token(vocabulary_, unknown_, file_, piece));
}

WordLevelModel::WordLevelModel(const JsonNode& node)
    : file_(node.file()),
      vocabulary_(Vocabulary::from_mapping(node.at("vocab"))),
      unknown_(node.at("unk_token").string()) {}

void WordLevelModel::tokenize(std::string_view piece, std::vector<Token>& out) const {
  const auto id = vocabulary_.id_of(piece);
  out.push_back(id ? Token{*id, 0, static_cast<std::uint32_t>(piece.size())}
                   : unknown_token(vocabulary_, unknown_, file_, piece));
}

}  // namespace headway::text
