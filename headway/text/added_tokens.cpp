// Ids of added tokens and the search for them.
// Not for: the JSON sections around them (json_tokenizer_parse.cpp).
#include "headway/text/added_tokens.h"

#include <algorithm>

#include <fmt/format.h>

namespace headway::text {
namespace {

// Work per character is bounded by the longest token.
constexpr std::size_t kLongestContent = 4096;

bool is_word_at(std::string_view text, std::uint32_t at) {
  return word_characters().contains(decode_point(text, at).point);
}

// Where the white space before `at` begins, not looking before `floor`.
std::uint32_t spaces_begin(std::string_view text, std::uint32_t at, std::uint32_t floor) {
  while (at > floor) {
    const std::uint32_t before = at - length_before(text, at);
    if (!is_white_space(decode_point(text, before).point)) break;
    at = before;
  }
  return at;
}

std::uint32_t run_end(std::string_view text, std::uint32_t at) {
  while (at < text.size()) {
    const DecodedPoint decoded = decode_point(text, at);
    if (!is_white_space(decoded.point)) break;
    at += decoded.length;
  }
  return at;
}

}  // namespace

AddedToken AddedToken::from_json(const JsonNode& node) {
  AddedToken token;
  const JsonNode content = node.at("content");
  token.content = content.string();
  if (token.content.size() > kLongestContent) {
    content.fail(fmt::format("at most {} bytes", kLongestContent));
  }
  token.single_word = node.boolean_or("single_word", false);
  token.lstrip = node.boolean_or("lstrip", false);
  token.rstrip = node.boolean_or("rstrip", false);
  token.special = node.boolean_or("special", false);
  token.normalized = node.boolean_or("normalized", !token.special);
  return token;
}

void TokenTrie::insert(std::string_view key, std::uint32_t value) {
  if (key.empty()) return;
  starts_[static_cast<unsigned char>(key[0])] = true;
  std::uint32_t node = 0;
  for (const char c : key) {
    const auto byte = static_cast<unsigned char>(c);
    auto& children = nodes_[node].children;
    const auto place = std::lower_bound(children.begin(), children.end(),
                                        std::pair<unsigned char, std::uint32_t>{byte, 0});
    if (place != children.end() && place->first == byte) {
      node = place->second;
      continue;
    }
    const auto fresh = static_cast<std::uint32_t>(nodes_.size());
    children.insert(place, {byte, fresh});
    nodes_.emplace_back();
    node = fresh;
  }
  if (nodes_[node].value == kNoToken) nodes_[node].value = value;
}

std::optional<TokenTrie::Match> TokenTrie::longest(std::string_view text, std::uint32_t at) const {
  std::optional<Match> found;
  std::uint32_t node = 0;
  while (at < text.size()) {
    const auto byte = static_cast<unsigned char>(text[at]);
    const auto& children = nodes_[node].children;
    const auto place = std::lower_bound(children.begin(), children.end(),
                                        std::pair<unsigned char, std::uint32_t>{byte, 0});
    if (place == children.end() || place->first != byte) break;
    node = place->second;
    ++at;
    if (nodes_[node].value != kNoToken) found = Match{at, nodes_[node].value};
  }
  return found;
}

std::uint32_t TokenTrie::next_start(std::string_view text, std::uint32_t at) const {
  while (at < text.size() && !starts_[static_cast<unsigned char>(text[at])]) ++at;
  return at;
}

void AddedTokens::add(const AddedToken& token, const Vocabulary& vocabulary) {
  if (token.content.empty()) return;
  if (token.special && special_contents_.insert(token.content).second) special_.push_back(token);
  if (contains(token)) return;
  const auto known = ids_.find(token.content);
  std::uint32_t id = 0;
  if (known != ids_.end()) {
    id = known->second;
  } else if (const auto in_model = vocabulary.id_of(token.content)) {
    id = *in_model;
  } else {
    const auto size = static_cast<std::uint32_t>(vocabulary.size());
    id = std::max(size, static_cast<std::uint32_t>(id_limit()));
  }
  ids_[token.content] = id;
  by_id_[id] = token;
  if (!is_special(token.content)) plain_.push_back(token);
}

bool AddedTokens::contains(const AddedToken& token) const {
  const auto known = ids_.find(token.content);
  if (known == ids_.end()) return false;
  return by_id_.at(known->second) == token;
}

void AddedTokens::prepare(const std::vector<Normalizer>& normalizer) {
  raw_trie_ = TokenTrie();
  normalized_trie_ = TokenTrie();
  spellings_.clear();
  for (const auto& [id, token] : by_id_) {
    spellings_[id] = token.normalized ? text::normalized(normalizer, token.content) : token.content;
  }
  for (const auto* list : {&special_, &plain_}) {
    for (const AddedToken& token : *list) {
      const std::uint32_t id = ids_.at(token.content);
      if (token.normalized) {
        normalized_trie_.insert(text::normalized(normalizer, token.content), id);
      } else {
        raw_trie_.insert(token.content, id);
      }
    }
  }
}

// A match may begin in white space that an rstrip token before it has taken: it is given again, and
// the rest of the text goes on after it, as in the reference.
void AddedTokens::cut_piece(const Document& document, const Piece& piece, const TokenTrie& trie,
                            std::vector<Piece>& out) const {
  const std::string_view text = document.view(piece);
  const auto size = static_cast<std::uint32_t>(text.size());
  std::uint32_t done = 0;
  const auto add = [&](std::uint32_t begin, std::uint32_t end, std::uint32_t token) {
    if (begin == end) return;
    const std::uint32_t origin = begin == 0 && !document.aligned
                                     ? piece.origin
                                     : document.origin_begin(piece.text.begin + begin);
    out.push_back({{piece.text.begin + begin, piece.text.begin + end}, origin, token});
  };
  std::uint32_t spaces_end = 0;  // of the run of white space last passed over
  for (std::uint32_t at = trie.next_start(text, 0); at < size; at = trie.next_start(text, at)) {
    const auto match = trie.longest(text, at);
    if (!match) {
      ++at;
      continue;
    }
    const AddedToken& token = by_id_.at(match->value);
    std::uint32_t begin = at;
    std::uint32_t end = at = match->end;
    if (token.single_word && ((begin > 0 && is_word_at(text, begin - length_before(text, begin))) ||
                              (end < size && is_word_at(text, end)))) {
      continue;
    }
    if (token.lstrip) begin = std::max(done, spaces_begin(text, begin, done));
    if (token.rstrip) {
      if (end >= spaces_end) spaces_end = run_end(text, end);
      end = spaces_end;
    }
    if (begin > end) continue;  // the reference fails here
    if (done < begin) add(done, begin, kNoToken);
    add(begin, end, match->value);
    done = end;
  }
  add(done, size, kNoToken);
}

void AddedTokens::extract(Document& document, bool normalized) const {
  const TokenTrie& trie = normalized ? normalized_trie_ : raw_trie_;
  if (trie.empty()) return;
  std::vector<Piece> pieces;
  pieces.reserve(document.pieces.size());
  for (const Piece& piece : document.pieces) {
    if (piece.token != kNoToken) {
      pieces.push_back(piece);
    } else {
      cut_piece(document, piece, trie, pieces);
    }
  }
  document.pieces = std::move(pieces);
}

std::optional<std::uint32_t> AddedTokens::id_of(std::string_view content) const {
  const auto found = ids_.find(std::string(content));
  if (found == ids_.end()) return std::nullopt;
  return found->second;
}

const AddedToken* AddedTokens::token_of(std::int64_t id) const {
  if (id < 0 || id > kLargestTokenId) return nullptr;
  const auto found = by_id_.find(static_cast<std::uint32_t>(id));
  return found == by_id_.end() ? nullptr : &found->second;
}

const std::string* AddedTokens::spelling_of(std::int64_t id) const {
  if (id < 0 || id > kLargestTokenId) return nullptr;
  const auto found = spellings_.find(static_cast<std::uint32_t>(id));
  return found == spellings_.end() ? nullptr : &found->second;
}

bool AddedTokens::is_special(std::string_view content) const {
  return special_contents_.contains(std::string(content));
}

}  // namespace headway::text
