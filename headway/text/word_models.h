// WordPiece, WordLevel and Unigram: the models beside BPE.
// Not for: BPE (bpe_model.h).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "headway/text/json_node.h"
#include "headway/text/vocabulary.h"

namespace headway::text {

/// Longest token first, from left to right; a piece that cannot be covered is one unknown token.
class WordPieceModel {
 public:
  explicit WordPieceModel(const JsonNode& node);
  void tokenize(std::string_view piece, std::vector<Token>& out) const;
  const Vocabulary& vocabulary() const { return vocabulary_; }

 private:
  std::string file_;
  Vocabulary vocabulary_;
  std::string unknown_;
  std::string prefix_;
  std::size_t longest_ = 0;  // bytes of the longest token
  std::int64_t max_characters_;
};

/// Every piece is a token or unknown.
class WordLevelModel {
 public:
  explicit WordLevelModel(const JsonNode& node);
  void tokenize(std::string_view piece, std::vector<Token>& out) const;
  const Vocabulary& vocabulary() const { return vocabulary_; }

 private:
  std::string file_;
  Vocabulary vocabulary_;
  std::string unknown_;
};

/// The cover of a piece with the largest sum of scores; an unknown character scores 10 less than
/// the worst token, and neighbours of them are one unknown token.
class UnigramModel {
 public:
  explicit UnigramModel(const JsonNode& node);

  struct Best {
    double score;
    std::int64_t begin;  // of the last token; -1: not reached
    std::uint32_t id;
  };
  struct Scratch {
    std::vector<Best> best;
    std::vector<Token> parts;
  };
  void tokenize(std::string_view piece, Scratch& scratch, std::vector<Token>& out) const;
  const Vocabulary& vocabulary() const { return vocabulary_; }

 private:
  void build_trie(const std::vector<std::string>& tokens);
  std::uint32_t child(std::uint32_t node, unsigned char byte) const;
  void find_best(std::string_view piece, std::vector<Best>& best) const;
  void consider(std::vector<Best>& best, std::size_t begin, std::size_t end, Best candidate) const;
  void add_part(std::string_view piece, const Token& part, std::vector<Token>& out) const;
  std::uint32_t unknown_id() const;

  struct Edge {
    std::uint64_t key;  // node << 8 | byte, plus 1; 0: free
    std::uint32_t node;
  };
  std::string file_;
  Vocabulary vocabulary_;
  std::vector<double> scores_;
  double unknown_score_ = 0;
  std::optional<std::uint32_t> unknown_;
  bool byte_fallback_ = false;
  std::vector<Edge> edges_;
  std::vector<std::uint32_t> ends_;  // per node: id + 1 of the token that ends there
};

}  // namespace headway::text
