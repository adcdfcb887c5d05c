// Checks a token file before anything in it is believed.
// Not for: files of other programs; there is no conversion.
#include "headway/data/token_store.h"

#include <algorithm>
#include <cstring>
#include <limits>

#include <fmt/format.h>

#include "headway/base/checked_math.h"
#include "headway/base/error.h"
#include "headway/data/internal/token_format.h"

namespace headway::data {
namespace {

using internal::Header;

// True if the ends increase strictly from above 0 to `tokens`.
bool ends_fit(std::span<const std::uint64_t> ends, std::uint64_t tokens) {
  std::uint64_t last = 0;
  for (const std::uint64_t end : ends) {
    if (end <= last) return false;
    last = end;
  }
  return last == tokens;
}

// True if the bounds are pairs that follow one another within `tokens`.
bool spans_fit(std::span<const std::uint64_t> bounds, std::uint64_t tokens) {
  std::uint64_t last = 0;
  for (std::size_t i = 0; i + 1 < bounds.size(); i += 2) {
    if (bounds[i] < last || bounds[i + 1] <= bounds[i]) return false;
    last = bounds[i + 1];
  }
  return bounds.size() % 2 == 0 && last <= tokens;
}

struct Checker {
  const std::string& name;

  void require(bool holds, std::string_view what, std::string_view allowed) const {
    if (holds) return;
    throw CheckpointError(fmt::format(
        "[{}] {}, allowed {}; hint: delete the file, it is made again", name, what, allowed));
  }

  std::int64_t count(std::uint64_t value, std::string_view field) const {
    constexpr auto kMax = std::uint64_t{std::numeric_limits<std::int64_t>::max()};
    require(value <= kMax, fmt::format("{} = {}", field, value), "a 63-bit number");
    return static_cast<std::int64_t>(value);
  }

  Header header(std::span<const std::byte> bytes) const {
    require(std::ssize(bytes) >= internal::kHeaderBytes,
            fmt::format("size = {} bytes", bytes.size()), "a token file of at least 128 bytes");
    Header result;
    std::memcpy(&result, bytes.data(), sizeof(result));
    require(std::memcmp(result.magic, internal::kMagic, sizeof(internal::kMagic)) == 0,
            "first bytes = something else", "HWTOKENS");
    require(result.version == internal::kVersion, fmt::format("version = {}", result.version),
            fmt::format("{}", internal::kVersion));
    require(result.header == internal::header_hash(result), "header checksum = wrong",
            "an undamaged file");
    require(std::ranges::count(result.reserved, 0u) == std::ssize(result.reserved),
            "reserved fields = in use", "zeros");
    const std::int64_t vocab_size = count(result.vocab_size, "vocab_size");
    require(vocab_size >= 1 && vocab_size <= internal::kMaxVocabSize,
            fmt::format("vocab_size = {}", vocab_size), "1 to 2^32");
    require(result.bytes_per_token == internal::bytes_per_token(vocab_size),
            fmt::format("bytes_per_token = {}", result.bytes_per_token),
            fmt::format("{}", internal::bytes_per_token(vocab_size)));
    return result;
  }
};

}  // namespace

std::shared_ptr<const TokenStore> TokenStore::open(const std::string& path) {
  std::shared_ptr<TokenStore> store(new TokenStore());
  store->name_ = path;
  store->file_ = MappedFile(path);
  store->parse();
  return store;
}

void TokenStore::parse() {
  const Checker check{name_};
  const auto bytes = file_.bytes();
  const Header header = check.header(bytes);
  size_ = check.count(header.token_count, "token_count");
  vocab_size_ = static_cast<std::int64_t>(header.vocab_size);
  content_ = header.content;
  tokenizer_ = header.tokenizer;

  const std::int64_t documents = check.count(header.document_count, "document_count");
  const std::int64_t token_bytes = checked_mul(size_, header.bytes_per_token, name_);
  const std::int64_t table_offset =
      checked_add(checked_add(internal::kHeaderBytes, token_bytes, name_),
                  internal::padding(token_bytes), name_);
  const std::int64_t learned_offset =
      checked_add(table_offset, checked_mul(documents, 8, name_), name_);
  const std::int64_t bounds = check.count(header.learned_count, "learned_count");
  const std::int64_t expected = checked_add(learned_offset, checked_mul(bounds, 8, name_), name_);
  check.require(std::ssize(bytes) == expected, fmt::format("size = {} bytes", bytes.size()),
                fmt::format("{} bytes for {} tokens and {} documents", expected, size_, documents));
  check.require(
      ContentHash().update(bytes.subspan(internal::kHeaderBytes)).value() == header.payload,
      "payload checksum = wrong", "an undamaged file");

  // The map is page-aligned and the offsets are multiples of 8, so the casts are aligned.
  const std::byte* first = bytes.data() + internal::kHeaderBytes;
  const auto count = static_cast<std::size_t>(size_);
  if (header.bytes_per_token == 2) {
    tokens_ = std::span(reinterpret_cast<const std::uint16_t*>(first), count);
  } else {
    tokens_ = std::span(reinterpret_cast<const std::uint32_t*>(first), count);
  }
  document_ends_ = std::span(reinterpret_cast<const std::uint64_t*>(bytes.data() + table_offset),
                             static_cast<std::size_t>(documents));
  learned_ = std::span(reinterpret_cast<const std::uint64_t*>(bytes.data() + learned_offset),
                       static_cast<std::size_t>(bounds));
  check.require(ends_fit(document_ends_, header.token_count), "document table = out of order",
                "increasing ends, the last one token_count");
  check.require(spans_fit(learned_, header.token_count), "learned spans = out of order",
                "pairs of begin and end that follow one another");
}

std::shared_ptr<const TokenStore> TokenStore::in_memory(Content content) {
  if (!ends_fit(content.document_ends, content.tokens.size())) {
    throw InternalError("[tokens in memory] document_ends = out of order, allowed increasing ends");
  }
  if (!spans_fit(content.learned, content.tokens.size())) {
    throw InternalError("[tokens in memory] learned = out of order, allowed spans in order");
  }
  std::shared_ptr<TokenStore> store(new TokenStore());
  store->memory_ = std::move(content);
  store->tokens_ = std::span<const std::uint32_t>(store->memory_.tokens);
  store->document_ends_ = store->memory_.document_ends;
  store->learned_ = store->memory_.learned;
  store->size_ = std::ssize(store->memory_.tokens);
  store->vocab_size_ = store->memory_.vocab_size;
  store->content_ = store->memory_.content;
  store->tokenizer_ = store->memory_.tokenizer;
  return store;
}

void TokenStore::copy(std::int64_t begin, std::span<std::int64_t> out) const {
  if (begin < 0 || begin > size_ || std::ssize(out) > size_ - begin) {
    throw InternalError(fmt::format("[{}] tokens = {} from {}, allowed within {}", name_,
                                    out.size(), begin, size_));
  }
  const auto copy_from = [&](const auto& tokens) {
    std::int64_t largest = 0;
    for (std::size_t i = 0; i < out.size(); ++i) {
      out[i] = static_cast<std::int64_t>(tokens[static_cast<std::size_t>(begin) + i]);
      largest = std::max(largest, out[i]);
    }
    return largest;
  };
  const std::int64_t largest = std::visit(copy_from, tokens_);
  if (largest >= vocab_size_) {
    throw CheckpointError(fmt::format("[{}] token id = {}, allowed less than vocab_size (= {})",
                                      name_, largest, vocab_size_));
  }
}

}  // namespace headway::data
