// A stream of tokens with document boundaries, memory-mapped from a token file or held in memory.
// Not for: writing (token_writer.h) or cutting into samples (packing.h).
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <variant>
#include <vector>

#include "headway/base/content_hash.h"
#include "headway/base/mapped_file.h"

namespace headway::data {

/// Immutable and usable from several threads at once. Documents are never empty and follow one
/// another.
class TokenStore {
 public:
  /// Maps and checks a token file: sizes, checksums, document table. Token ids are checked by
  /// copy(). Errors: CheckpointError naming the file and what is wrong. Test: tests/fuzz/data.
  static std::shared_ptr<const TokenStore> open(const std::string& path);

  struct Content {
    std::vector<std::uint32_t> tokens;
    std::vector<std::uint64_t> document_ends;  // increasing, the last is tokens.size()
    std::int64_t vocab_size = 0;
    ContentHash::Value content{};
    ContentHash::Value tokenizer{};
    std::vector<std::uint64_t> learned{};  // begin and end of every span, in order
  };
  /// Errors: InternalError if document ends or learned spans do not fit the tokens.
  static std::shared_ptr<const TokenStore> in_memory(Content content);

  TokenStore(const TokenStore&) = delete;  // the views below point into the object
  TokenStore& operator=(const TokenStore&) = delete;

  std::int64_t size() const { return size_; }
  std::int64_t vocab_size() const { return vocab_size_; }
  /// End of every document, as an offset into the tokens.
  std::span<const std::uint64_t> document_ends() const { return document_ends_; }
  /// Begin and end of every run of tokens that is learned; empty: all are.
  std::span<const std::uint64_t> learned() const { return learned_; }
  /// What the tokens were made from: equal values mean equal tokens.
  const ContentHash::Value& content() const { return content_; }
  const ContentHash::Value& tokenizer() const { return tokenizer_; }

  /// Tokens [begin, begin + out.size()). Errors: InternalError outside the store; CheckpointError
  /// for an id >= vocab_size().
  void copy(std::int64_t begin, std::span<std::int64_t> out) const;

 private:
  TokenStore() = default;
  void parse();

  std::string name_ = "tokens in memory";
  MappedFile file_;
  Content memory_;
  std::variant<std::span<const std::uint16_t>, std::span<const std::uint32_t>> tokens_;
  std::span<const std::uint64_t> document_ends_;
  std::span<const std::uint64_t> learned_;
  std::int64_t size_ = 0;
  std::int64_t vocab_size_ = 0;
  ContentHash::Value content_{};
  ContentHash::Value tokenizer_{};
};

}  // namespace headway::data
