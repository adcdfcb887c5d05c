// Unigram: a trie of tokens and the best path through a piece.
// Not for: learning scores.
#include <algorithm>
#include <limits>

#include <fmt/format.h>

#include "headway/base/error.h"
#include "headway/text/unicode.h"
#include "headway/text/word_models.h"

namespace headway::text {
namespace {

constexpr double kUnknownPenalty = 10.0;

std::size_t edge_slot(std::uint64_t key, std::size_t mask) {
  key *= 0x9E3779B97F4A7C15u;
  return (key ^ key >> 31) & mask;
}

}  // namespace

UnigramModel::UnigramModel(const JsonNode& node) : file_(node.file()) {
  const JsonNode list = node.at("vocab");
  list.require_list();
  if (list.size() > kLargestVocabulary) {
    list.fail(fmt::format("at most {} tokens", kLargestVocabulary));
  }
  std::vector<std::string> tokens;
  double lowest = std::numeric_limits<double>::infinity();
  for (std::size_t i = 0; i < list.size(); ++i) {
    const JsonNode entry = list.at(i);
    entry.require_list(2);
    tokens.push_back(entry.at(std::size_t{0}).string());
    scores_.push_back(entry.at(std::size_t{1}).number());
    lowest = std::min(lowest, scores_.back());
  }
  unknown_score_ = lowest - kUnknownPenalty;
  if (const auto unknown = node.find("unk_id")) {
    const auto last = static_cast<std::int64_t>(tokens.size()) - 1;
    unknown_ = static_cast<std::uint32_t>(unknown->integer(0, last));
  }
  byte_fallback_ = node.boolean_or("byte_fallback", false);
  vocabulary_ = Vocabulary::from_list(tokens);
  build_trie(tokens);
}

void UnigramModel::build_trie(const std::vector<std::string>& tokens) {
  std::size_t bytes = 0;
  for (const std::string& token : tokens) bytes += token.size();
  std::size_t slots = 16;
  while (slots < bytes * 2) slots *= 2;
  edges_.assign(slots, Edge{0, 0});
  ends_.assign(1, 0);
  for (const std::string& token : tokens) {
    std::uint32_t node = 0;
    for (const char byte : token) {
      const std::uint64_t key = (std::uint64_t{node} << 8 | static_cast<unsigned char>(byte)) + 1;
      std::size_t slot = edge_slot(key, slots - 1);
      while (edges_[slot].key != 0 && edges_[slot].key != key) slot = (slot + 1) & (slots - 1);
      if (edges_[slot].key == 0) {
        edges_[slot] = {key, static_cast<std::uint32_t>(ends_.size())};
        ends_.push_back(0);
      }
      node = edges_[slot].node;
    }
    if (node != 0) ends_[node] = *vocabulary_.id_of(token) + 1;
  }
}

std::uint32_t UnigramModel::child(std::uint32_t node, unsigned char byte) const {
  const std::uint64_t key = (std::uint64_t{node} << 8 | byte) + 1;
  const std::size_t mask = edges_.size() - 1;
  for (std::size_t slot = edge_slot(key, mask);; slot = (slot + 1) & mask) {
    if (edges_[slot].key == key) return edges_[slot].node;
    if (edges_[slot].key == 0) return 0;
  }
}

std::uint32_t UnigramModel::unknown_id() const {
  if (!unknown_) {
    throw CheckpointError(fmt::format(
        "[{}] model.unk_id = absent, allowed an id; hint: the text has characters that the "
        "vocabulary has not",
        file_));
  }
  return *unknown_;
}

void UnigramModel::consider(std::vector<Best>& best, std::size_t begin, std::size_t end,
                            Best candidate) const {
  Best& target = best[end];
  if (target.begin >= 0 && candidate.score <= target.score) return;
  target = candidate;
  target.begin = static_cast<std::int64_t>(begin);
}

void UnigramModel::find_best(std::string_view piece, std::vector<Best>& best) const {
  best.assign(piece.size() + 1, Best{0, -1, 0});
  for (std::size_t at = 0; at < piece.size();) {
    const std::size_t length = decode_point(piece, at).length;
    const double here = best[at].score;
    bool single = false;
    std::uint32_t node = 0;
    for (std::size_t end = at; end < piece.size();) {
      node = child(node, static_cast<unsigned char>(piece[end]));
      if (node == 0) break;
      ++end;
      if (ends_[node] == 0) continue;
      const std::uint32_t id = ends_[node] - 1;
      consider(best, at, end, {here + scores_[id], 0, id});
      single = single || end - at == length;
    }
    if (!single) {
      const double score = here + unknown_score_;
      const Best& target = best[at + length];
      if (target.begin < 0 || score > target.score) {
        consider(best, at, at + length, {score, 0, unknown_id()});
      }
    }
    at += length;
  }
}

void UnigramModel::add_part(std::string_view piece, const Token& part,
                            std::vector<Token>& out) const {
  const std::string_view text = piece.substr(part.begin, part.end - part.begin);
  if (const auto id = vocabulary_.id_of(text)) {
    out.push_back({*id, part.begin, part.end});
    return;
  }
  if (byte_fallback_) {
    const std::size_t first = out.size();
    for (const char byte : text) {
      const auto id =
          vocabulary_.id_of(fmt::format("<0x{:02X}>", static_cast<unsigned char>(byte)));
      if (!id) break;
      out.push_back({*id, part.begin, part.end});
    }
    if (out.size() - first == text.size()) return;
    out.resize(first);
  }
  out.push_back({unknown_id(), part.begin, part.end});
}

void UnigramModel::tokenize(std::string_view piece, Scratch& scratch,
                            std::vector<Token>& out) const {
  find_best(piece, scratch.best);
  scratch.parts.clear();
  bool open = false;  // the last part is made of unknown characters and may grow to the left
  for (auto end = static_cast<std::int64_t>(piece.size()); end > 0;) {
    const Best& node = scratch.best[static_cast<std::size_t>(end)];
    const bool unknown = unknown_ && node.id == *unknown_;
    if (unknown && open) {
      scratch.parts.back().begin = static_cast<std::uint32_t>(node.begin);
    } else {
      scratch.parts.push_back(
          {node.id, static_cast<std::uint32_t>(node.begin), static_cast<std::uint32_t>(end)});
    }
    open = unknown;
    end = node.begin;
  }
  for (auto part = scratch.parts.rbegin(); part != scratch.parts.rend(); ++part) {
    add_part(piece, *part, out);
  }
}

}  // namespace headway::text
