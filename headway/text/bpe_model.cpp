// BPE on one piece: symbols, merges, quirks of the reference that ids depend on.
// Not for: reading the model from JSON (bpe_model_parse.cpp).
#include "headway/text/bpe_model.h"

#include <algorithm>

#include <fmt/format.h>

#include "headway/base/error.h"
#include "headway/text/byte_alphabet.h"
#include "headway/text/unicode.h"

namespace headway::text {
namespace {

constexpr std::size_t kShort = 24;  // symbols merged by scanning instead of with a heap
constexpr std::uint32_t kNever = 0xFFFFFFFFu;

bool later(const BpeModel::Entry& a, const BpeModel::Entry& b) {
  return a.rank != b.rank ? a.rank > b.rank : a.position > b.position;
}

}  // namespace

void MergeTable::reserve(std::size_t count) {
  std::size_t slots = 16;
  while (slots < count * 2 + 2) slots *= 2;
  slots_.assign(slots, Slot{});
  mask_ = slots - 1;
}

void MergeTable::set(std::uint32_t left, std::uint32_t right, Merge merge) {
  const std::uint64_t key = std::uint64_t{left} << 32 | right;
  std::size_t slot = slot_of(key);
  while (slots_[slot].key != key && slots_[slot].key != kFree) slot = (slot + 1) & mask_;
  slots_[slot] = {key, merge};
}

// Spans follow the order of symbols: each begins where the one before ended.
void BpeModel::add_symbol(Scratch& scratch, std::uint32_t id, std::uint32_t length) const {
  const auto index = static_cast<std::int32_t>(scratch.symbols.size());
  scratch.symbols.push_back({id, scratch.position, length, index - 1, index + 1});
  scratch.position += length;
}

std::uint32_t BpeModel::unknown_id() const {
  const auto id = vocabulary_.id_of(unknown_);
  if (!id) {
    throw CheckpointError(fmt::format(
        "[{}] model.unk_token = \"{}\", allowed a token of model.vocab; hint: the text has "
        "characters that the vocabulary has not",
        file_, unknown_));
  }
  return *id;
}

// All bytes of a symbol as "<0xHH>" tokens, if the vocabulary has every one of them.
bool BpeModel::add_bytes(std::string_view spelled, Scratch& scratch) const {
  for (const char byte : spelled) {
    if (!fallback_ids_[static_cast<unsigned char>(byte)]) return false;
  }
  for (const char byte : spelled) {
    add_symbol(scratch, *fallback_ids_[static_cast<unsigned char>(byte)], 1);
  }
  return true;
}

// Every byte one symbol.
void BpeModel::fill_from_bytes(std::string_view piece, Scratch& scratch) const {
  for (const char byte : piece) {
    add_symbol(scratch, *byte_ids_[static_cast<unsigned char>(byte)], 1);
  }
}

// The general rule. A pending unknown token is written only before a known one, before another
// unknown one, or at the end: byte tokens overtake it.
void BpeModel::fill_from_characters(std::string_view piece, bool byte_level,
                                    Scratch& scratch) const {
  std::uint32_t pending = 0;  // length of an unknown token not yet written
  const auto flush = [&] {
    if (pending > 0) add_symbol(scratch, unknown_id(), pending);
    pending = 0;
  };
  std::string& spelled = scratch.spelled;
  for (std::uint32_t at = 0; at < piece.size();) {
    const std::uint32_t begin = at;
    const std::uint32_t length = byte_level ? 1 : decode_point(piece, at).length;
    at += length;
    spelled.assign(begin == 0 ? "" : prefix_);
    spelled += byte_level ? byte_to_utf8(static_cast<std::uint8_t>(piece[begin]))
                          : piece.substr(begin, length);
    if (at == piece.size()) spelled += suffix_;
    if (const auto id = vocabulary_.id_of(spelled)) {
      flush();
      add_symbol(scratch, *id, length);
      continue;
    }
    if (byte_fallback_ && add_bytes(spelled, scratch)) continue;
    if (!has_unknown_) {
      scratch.position += length;
    } else if (pending > 0 && fuse_unknown_) {
      pending += length;
    } else {
      flush();
      unknown_id();
      pending = length;
    }
  }
  flush();
}

// Lowest rank first, ties leftmost.
void BpeModel::merge_short(std::vector<Symbol>& symbols) const {
  std::array<MergeTable::Merge, kShort> pairs;
  std::size_t count = symbols.size();
  const auto look_up = [&](std::size_t i) {
    const MergeTable::Merge* merge = merges_.find(symbols[i].id, symbols[i + 1].id);
    pairs[i] = merge == nullptr ? MergeTable::Merge{kNever, 0} : *merge;
  };
  for (std::size_t i = 0; i + 1 < count; ++i) look_up(i);
  while (count > 1) {
    std::size_t best = 0;
    for (std::size_t i = 1; i + 1 < count; ++i) {
      if (pairs[i].rank < pairs[best].rank) best = i;
    }
    if (pairs[best].rank == kNever) break;
    symbols[best].id = pairs[best].id;
    symbols[best].length = symbols[best + 1].end() - symbols[best].begin;
    std::move(symbols.begin() + static_cast<std::ptrdiff_t>(best) + 2,
              symbols.begin() + static_cast<std::ptrdiff_t>(count),
              symbols.begin() + static_cast<std::ptrdiff_t>(best) + 1);
    std::move(pairs.begin() + static_cast<std::ptrdiff_t>(best) + 1,
              pairs.begin() + static_cast<std::ptrdiff_t>(count) - 1,
              pairs.begin() + static_cast<std::ptrdiff_t>(best));
    --count;
    if (best > 0) look_up(best - 1);
    if (best + 1 < count) look_up(best);
  }
  symbols.resize(count);
}

// The same with a heap over a linked list. An entry is stale when its pair no longer merges to the
// id it was made for.
void BpeModel::merge_long(Scratch& scratch) const {
  std::vector<Symbol>& symbols = scratch.symbols;
  std::vector<Entry>& heap = scratch.heap;
  heap.clear();
  const auto count = static_cast<std::int32_t>(symbols.size());
  const auto entry_at = [&](std::int32_t left, std::int32_t right) -> std::optional<Entry> {
    const MergeTable::Merge* merge = merges_.find(symbols[static_cast<std::size_t>(left)].id,
                                                  symbols[static_cast<std::size_t>(right)].id);
    if (merge == nullptr) return std::nullopt;
    return Entry{merge->rank, merge->id, static_cast<std::uint32_t>(left)};
  };
  for (std::int32_t i = 0; i + 1 < count; ++i) {
    if (const auto entry = entry_at(i, i + 1)) heap.push_back(*entry);
  }
  std::make_heap(heap.begin(), heap.end(), later);
  const auto push = [&](std::int32_t left, std::int32_t right) {
    if (const auto entry = entry_at(left, right)) {
      heap.push_back(*entry);
      std::push_heap(heap.begin(), heap.end(), later);
    }
  };
  while (!heap.empty()) {
    std::pop_heap(heap.begin(), heap.end(), later);
    const Entry top = heap.back();
    heap.pop_back();
    const auto at = static_cast<std::int32_t>(top.position);
    Symbol& left = symbols[top.position];
    if (left.length == 0 || left.next >= count) continue;
    Symbol& right = symbols[static_cast<std::size_t>(left.next)];
    const MergeTable::Merge* merge = merges_.find(left.id, right.id);
    if (merge == nullptr || merge->id != top.id) continue;
    left.id = top.id;
    left.length = right.end() - left.begin;
    left.next = right.next;
    right.length = 0;
    if (left.next < count) symbols[static_cast<std::size_t>(left.next)].previous = at;
    if (left.previous >= 0) push(left.previous, at);
    if (left.next < count) push(at, left.next);
  }
  std::erase_if(symbols, [](const Symbol& symbol) { return symbol.length == 0; });
}

void BpeModel::tokenize(std::string_view piece, bool byte_level, Scratch& scratch,
                        std::vector<Token>& out) const {
  const auto size = static_cast<std::uint32_t>(piece.size());
  if (ignore_merges_) {
    const auto whole = byte_level ? raw_tokens_.find(piece) : vocabulary_.id_of(piece);
    if (whole) {
      out.push_back({*whole, 0, size});
      return;
    }
  }
  scratch.symbols.clear();
  scratch.position = 0;
  if (byte_level && plain_bytes_) {
    fill_from_bytes(piece, scratch);
  } else {
    fill_from_characters(piece, byte_level, scratch);
  }
  if (scratch.symbols.size() <= kShort) {
    merge_short(scratch.symbols);
  } else {
    merge_long(scratch);
  }
  for (const Symbol& symbol : scratch.symbols) {
    out.push_back({symbol.id, std::min(symbol.begin, size), std::min(symbol.end(), size)});
  }
}

bool BpeModel::may_cut(char32_t before, char32_t after) const {
  return cuts_allowed_ && !joined_.contains(std::uint64_t{before} << 32 | after) &&
         vocabulary_.id_of(point_to_utf8(after)).has_value();
}

}  // namespace headway::text
