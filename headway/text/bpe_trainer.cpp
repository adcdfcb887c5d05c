// Counting words, merging pairs with a heap of candidates, writing JSON.
// Not for: patterns and alphabets other than the byte-level default.
#include "headway/text/bpe_trainer.h"

#include <algorithm>
#include <optional>
#include <queue>
#include <unordered_set>

#include <fmt/format.h>

#include "headway/base/error.h"
#include "headway/base/json.h"
#include "headway/text/byte_alphabet.h"
#include "headway/text/json_node.h"
#include "headway/text/split_scanner.h"
#include "headway/text/unicode.h"
#include "headway/text/utf8.h"

namespace headway::text {
namespace {

constexpr std::size_t kBlock = std::size_t{1} << 20;
constexpr std::int64_t kBytes = 256;

const KnownPattern& split_pattern() {
  for (const KnownPattern& known : known_patterns()) {
    if (known.name == "llama3") return known;
  }
  throw InternalError("[tokenizer] the pattern llama3 is missing");
}

std::uint64_t key_of(std::uint32_t left, std::uint32_t right) {
  return std::uint64_t{left} << 32 | right;
}

struct Word {
  std::vector<std::uint32_t> symbols;
  std::int64_t count;
};

struct Candidate {
  std::int64_t count;
  std::uint64_t pair;
  bool operator<(const Candidate& other) const {
    return count != other.count ? count < other.count : pair > other.pair;
  }
};

struct Merge {
  std::uint32_t left;
  std::uint32_t right;
};

// The words as symbols, how often every pair of neighbours stands in them, and where.
class PairCounts {
 public:
  explicit PairCounts(std::vector<Word> words) : words_(std::move(words)) {
    for (std::uint32_t i = 0; i < words_.size(); ++i) {
      const Word& word = words_[i];
      for (std::size_t k = 1; k < word.symbols.size(); ++k) {
        add(key_of(word.symbols[k - 1], word.symbols[k]), word.count, i);
      }
    }
    for (const auto& [pair, entry] : pairs_) heap_.push({entry.count, pair});
  }

  /// The most frequent pair, or nothing if none is seen at least `min_count` times.
  std::optional<Merge> pop(std::int64_t min_count) {
    while (!heap_.empty()) {
      const Candidate top = heap_.top();
      heap_.pop();
      const std::int64_t count = pairs_.at(top.pair).count;
      if (count != top.count) {
        if (count > 0) heap_.push({count, top.pair});
        continue;
      }
      if (count < min_count) return std::nullopt;
      return Merge{static_cast<std::uint32_t>(top.pair >> 32),
                   static_cast<std::uint32_t>(top.pair)};
    }
    return std::nullopt;
  }

  void merge(const Merge& merge, std::uint32_t id) {
    std::vector<std::uint32_t> where = std::move(pairs_.at(key_of(merge.left, merge.right)).where);
    std::sort(where.begin(), where.end());
    where.erase(std::unique(where.begin(), where.end()), where.end());
    fresh_.clear();
    for (const std::uint32_t index : where) merge_word(index, merge, id);
    pairs_.at(key_of(merge.left, merge.right)).count = 0;
    for (const std::uint64_t pair : fresh_) heap_.push({pairs_.at(pair).count, pair});
  }

 private:
  struct Entry {
    std::int64_t count = 0;
    std::vector<std::uint32_t> where;  // words; one may stand twice, or no longer hold the pair
  };

  void add(std::uint64_t pair, std::int64_t count, std::uint32_t word) {
    Entry& entry = pairs_[pair];
    entry.count += count;
    if (count > 0 && (entry.where.empty() || entry.where.back() != word)) {
      entry.where.push_back(word);
    }
  }

  void merge_word(std::uint32_t index, const Merge& merge, std::uint32_t id) {
    Word& word = words_[index];
    std::vector<std::uint32_t>& symbols = word.symbols;
    std::size_t out = 0;
    for (std::size_t at = 0; at < symbols.size(); ++out) {
      const bool match =
          at + 1 < symbols.size() && symbols[at] == merge.left && symbols[at + 1] == merge.right;
      if (!match) {
        symbols[out] = symbols[at++];
        continue;
      }
      if (out > 0) {
        add(key_of(symbols[out - 1], merge.left), -word.count, index);
        gain(key_of(symbols[out - 1], id), word.count, index);
      }
      if (at + 2 < symbols.size()) {
        add(key_of(merge.right, symbols[at + 2]), -word.count, index);
        gain(key_of(id, symbols[at + 2]), word.count, index);
      }
      symbols[out] = id;
      at += 2;
    }
    symbols.resize(out);
  }

  void gain(std::uint64_t pair, std::int64_t count, std::uint32_t word) {
    add(pair, count, word);
    fresh_.insert(pair);
  }

  std::vector<Word> words_;
  std::unordered_map<std::uint64_t, Entry> pairs_;
  std::priority_queue<Candidate> heap_;
  std::unordered_set<std::uint64_t> fresh_;
};

// The alphabet in order of its characters, as the reference numbers it.
std::vector<std::string> byte_tokens(std::vector<std::uint32_t>& id_of_byte) {
  std::vector<std::pair<char32_t, std::uint8_t>> order;
  for (int byte = 0; byte < kBytes; ++byte) {
    const auto value = static_cast<std::uint8_t>(byte);
    order.emplace_back(byte_to_character(value), value);
  }
  std::sort(order.begin(), order.end());
  std::vector<std::string> tokens;
  id_of_byte.resize(kBytes);
  for (const auto& [character, byte] : order) {
    id_of_byte[byte] = static_cast<std::uint32_t>(tokens.size());
    tokens.push_back(point_to_utf8(character));
  }
  return tokens;
}

Json byte_level(bool trim) {
  return {{"type", "ByteLevel"},
          {"add_prefix_space", false},
          {"trim_offsets", trim},
          {"use_regex", false}};
}

Json tokenizer_json(const std::vector<std::string>& tokens, const std::vector<Merge>& merges,
                    const std::vector<std::string>& special) {
  Json added = Json::array();
  for (std::size_t i = 0; i < special.size(); ++i) {
    added.push_back({{"id", tokens.size() + i},
                     {"content", special[i]},
                     {"single_word", false},
                     {"lstrip", false},
                     {"rstrip", false},
                     {"normalized", false},
                     {"special", true}});
  }
  Json split{{"type", "Split"},
             {"pattern", {{"Regex", std::string(split_pattern().pattern)}}},
             {"behavior", "Isolated"},
             {"invert", false}};
  Json pairs = Json::array();
  for (const Merge& merge : merges) {
    pairs.push_back(Json::array({tokens[merge.left], tokens[merge.right]}));
  }
  return {{"version", "1.0"},
          {"truncation", nullptr},
          {"padding", nullptr},
          {"added_tokens", std::move(added)},
          {"normalizer", nullptr},
          {"pre_tokenizer", {{"type", "Sequence"}, {"pretokenizers", {split, byte_level(true)}}}},
          {"post_processor", byte_level(false)},
          {"decoder", byte_level(true)},
          {"model",
           {{"type", "BPE"},
            {"dropout", nullptr},
            {"unk_token", nullptr},
            {"continuing_subword_prefix", nullptr},
            {"end_of_word_suffix", nullptr},
            {"fuse_unk", false},
            {"byte_fallback", false},
            {"ignore_merges", false},
            {"vocab", "@vocab@"},
            {"merges", std::move(pairs)}}}};
}

// An ordered DOM looks keys up one by one, so a large mapping is written by hand.
std::string vocab_json(const std::vector<std::string>& tokens) {
  std::string text = "{";
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    text += fmt::format("{}{}:{}", i == 0 ? "" : ",", Json(tokens[i]).dump(), i);
  }
  return text + "}";
}

}  // namespace

BpeTrainer::BpeTrainer(BpeTrainerOptions options) : options_(std::move(options)) {
  const auto least = kBytes + static_cast<std::int64_t>(options_.special_tokens.size());
  if (options_.vocab_size < least || options_.vocab_size > kLargestTokenId) {
    throw ConfigError(fmt::format(
        "[tokenizer] vocab_size = {}, allowed {} (256 bytes and the special tokens) to {}",
        options_.vocab_size, least, kLargestTokenId));
  }
  std::unordered_set<std::string> seen;
  for (const std::string& token : options_.special_tokens) {
    if (token.empty() || !seen.insert(token).second) {
      throw ConfigError(fmt::format(
          "[tokenizer] special token = \"{}\", allowed non-empty names, each once", token));
    }
  }
}

void BpeTrainer::feed(std::string_view text) {
  buffer_ += text;
  if (buffer_.size() < kBlock) return;
  // A line end before a character that is not white space ends a piece whatever follows.
  for (std::size_t at = buffer_.size() - 1; at > 0; --at) {
    const auto next = static_cast<unsigned char>(buffer_[at]);
    if (buffer_[at - 1] != '\n' || next <= ' ' || next >= 0x7F) continue;
    count_words(std::string_view(buffer_).substr(0, at));
    buffer_.erase(0, at);
    return;
  }
}

void BpeTrainer::end_document() {
  count_words(buffer_);
  buffer_.clear();
}

void BpeTrainer::count_words(std::string_view text) {
  const std::string clean = repair_utf8(text);
  std::vector<Stretch> stretches;
  split_pattern().scanner(clean, stretches);
  for (const Stretch& stretch : stretches) {
    ++words_[clean.substr(stretch.span.begin, stretch.span.size())];
  }
}

std::string BpeTrainer::train(const Progress& progress) {
  std::vector<std::uint32_t> id_of_byte;
  std::vector<std::string> tokens = byte_tokens(id_of_byte);
  std::unordered_map<std::string, std::uint32_t> ids;
  for (std::uint32_t i = 0; i < tokens.size(); ++i) ids[tokens[i]] = i;
  std::vector<Word> words;
  words.reserve(words_.size());
  for (const auto& [text, count] : words_) {
    Word word{{}, count};
    for (const char byte : text)
      word.symbols.push_back(id_of_byte[static_cast<unsigned char>(byte)]);
    words.push_back(std::move(word));
  }
  PairCounts pairs(std::move(words));
  const auto wanted =
      static_cast<std::size_t>(options_.vocab_size) - options_.special_tokens.size();
  std::vector<Merge> merges;
  while (tokens.size() < wanted) {
    const auto merge = pairs.pop(std::max<std::int64_t>(1, options_.min_count));
    if (!merge) break;
    const std::string token = tokens[merge->left] + tokens[merge->right];
    const auto [place, is_new] = ids.emplace(token, static_cast<std::uint32_t>(tokens.size()));
    if (is_new) tokens.push_back(token);
    merges.push_back(*merge);
    pairs.merge(*merge, place->second);
    if (progress && tokens.size() % 256 == 0) {
      progress(static_cast<std::int64_t>(tokens.size()), static_cast<std::int64_t>(wanted));
    }
  }
  learned_ = static_cast<std::int64_t>(tokens.size() + options_.special_tokens.size());
  std::string text = tokenizer_json(tokens, merges, options_.special_tokens).dump(1);
  const std::string placeholder = "\"vocab\": \"@vocab@\"";
  const std::size_t place = text.rfind(placeholder);
  return text.replace(place, placeholder.size(), "\"vocab\": " + vocab_json(tokens)) + "\n";
}

std::string BpeTrainer::config() const {
  Json config{{"tokenizer_class", "PreTrainedTokenizerFast"},
              {"clean_up_tokenization_spaces", false}};
  if (!options_.special_tokens.empty()) config["eos_token"] = options_.special_tokens[0];
  return config.dump(2) + "\n";
}

}  // namespace headway::text
