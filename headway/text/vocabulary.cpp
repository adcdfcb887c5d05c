// Hash table of spellings and the vocabulary on top of it.
// Not for: merges (bpe_model.cpp).
#include "headway/text/vocabulary.h"

#include <cstring>

#include <fmt/format.h>

namespace headway::text {
namespace {

constexpr std::uint64_t kMultiplier = 0x9E3779B97F4A7C15u;

std::uint64_t mix(std::uint64_t value) {
  value ^= value >> 32;
  value *= kMultiplier;
  return value ^ value >> 29;
}

}  // namespace

std::uint64_t hash_bytes(std::string_view bytes) {
  std::uint64_t hash = bytes.size() * kMultiplier;
  const char* at = bytes.data();
  std::size_t left = bytes.size();
  for (; left >= 8; at += 8, left -= 8) {
    std::uint64_t word;
    std::memcpy(&word, at, 8);
    hash = mix(hash ^ word) * kMultiplier;
  }
  std::uint64_t word = 0;
  std::memcpy(&word, at, left);
  return mix(hash ^ word);
}

void StringTable::reserve(std::size_t count) {
  entries_.reserve(count);
  std::size_t slots = 16;
  while (slots < count * 2) slots *= 2;
  if (slots > slots_.size()) {
    slots_.assign(slots, 0);
    for (std::size_t i = 0; i < entries_.size(); ++i) {
      std::size_t slot = entries_[i].hash & (slots - 1);
      while (slots_[slot] != 0) slot = (slot + 1) & (slots - 1);
      slots_[slot] = static_cast<std::uint32_t>(i + 1);
    }
  }
}

void StringTable::grow() {
  if ((entries_.size() + 1) * 2 > slots_.size()) reserve((entries_.size() + 1) * 2);
}

bool StringTable::insert(std::string_view key, std::uint32_t value) {
  if (find(key)) return false;
  grow();
  const std::uint64_t hash = hash_bytes(key);
  std::size_t slot = hash & (slots_.size() - 1);
  while (slots_[slot] != 0) slot = (slot + 1) & (slots_.size() - 1);
  entries_.push_back({spellings_.size(), static_cast<std::uint32_t>(key.size()), value, hash});
  slots_[slot] = static_cast<std::uint32_t>(entries_.size());
  spellings_ += key;
  return true;
}

std::optional<std::uint32_t> StringTable::find(std::string_view key) const {
  if (slots_.empty()) return std::nullopt;
  const std::uint64_t hash = hash_bytes(key);
  for (std::size_t slot = hash & (slots_.size() - 1); slots_[slot] != 0;
       slot = (slot + 1) & (slots_.size() - 1)) {
    const Entry& entry = entries_[slots_[slot] - 1];
    if (entry.hash == hash && entry.length == key.size() &&
        std::memcmp(spellings_.data() + entry.begin, key.data(), key.size()) == 0) {
      return entry.value;
    }
  }
  return std::nullopt;
}

Vocabulary Vocabulary::from_mapping(const JsonNode& node) {
  node.require_object();
  if (node.size() > kLargestVocabulary) {
    node.fail(fmt::format("at most {} tokens", kLargestVocabulary));
  }
  Vocabulary vocabulary;
  vocabulary.table_.reserve(node.size());
  for (const auto& [token, id] : node.value().items()) {
    const JsonNode entry(id, node.file(), fmt::format("{}[\"{}\"]", node.path(), token));
    const auto number = static_cast<std::size_t>(entry.integer(0, kLargestTokenId));
    if (number >= vocabulary.tokens_.size()) vocabulary.tokens_.resize(number + 1);
    vocabulary.tokens_[number] = token;
    vocabulary.table_.insert(token, static_cast<std::uint32_t>(number));
    ++vocabulary.count_;
  }
  return vocabulary;
}

Vocabulary Vocabulary::from_list(const std::vector<std::string>& tokens) {
  Vocabulary vocabulary;
  vocabulary.table_.reserve(tokens.size());
  for (std::size_t i = tokens.size(); i-- > 0;) {
    vocabulary.table_.insert(tokens[i], static_cast<std::uint32_t>(i));
  }
  vocabulary.tokens_.assign(tokens.begin(), tokens.end());
  vocabulary.count_ = tokens.size();
  return vocabulary;
}

const std::string* Vocabulary::token_of(std::int64_t id) const {
  if (id < 0 || id >= static_cast<std::int64_t>(tokens_.size())) return nullptr;
  const auto& token = tokens_[static_cast<std::size_t>(id)];
  return token ? &*token : nullptr;
}

}  // namespace headway::text
