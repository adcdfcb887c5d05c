// Where tokens go while text is encoded: a token file, or memory.
// Not for: reading (token_store.h).
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "headway/base/atomic_file.h"
#include "headway/base/content_hash.h"
#include "headway/data/token_store.h"

namespace headway::data {

struct TokenFileInfo {
  std::int64_t vocab_size =
      0;  // 1 to 2^32; up to 65536 tokens are stored as uint16, else as uint32
  ContentHash::Value content{};
  ContentHash::Value tokenizer{};
};

/// Takes documents token by token. Documents without tokens leave no trace.
/// Errors: InternalError for an id outside [0, vocab_size); that is a broken tokenizer.
class TokenSink {
 public:
  explicit TokenSink(const TokenFileInfo& info);
  virtual ~TokenSink() = default;

  void append(std::span<const std::int64_t> ids);
  void end_document();
  /// Of tokens already there, [begin, end) are learned; without a call all are. Spans follow one
  /// another. Errors: InternalError.
  void learn(std::int64_t begin, std::int64_t end);
  bool has_learned() const { return !learned_.empty(); }
  std::int64_t size() const { return size_; }
  /// Of documents that were closed and had tokens.
  std::int64_t num_documents() const { return std::ssize(document_ends_); }

 protected:
  virtual void store(std::span<const std::uint32_t> ids) = 0;

  TokenFileInfo info_;
  std::vector<std::uint64_t> document_ends_;
  std::vector<std::uint64_t> learned_;  // begin and end of every span

 private:
  std::int64_t size_ = 0;
};

/// Writes a token file that has its name only when it is complete (AtomicFile).
/// Errors: CheckpointError if writing fails.
class TokenWriter final : public TokenSink {
 public:
  TokenWriter(const std::string& path, const TokenFileInfo& info);
  /// Closes the last document, writes table and header, gives the file its name. Once.
  void commit();

 private:
  void store(std::span<const std::uint32_t> ids) override;
  void append_hashed(std::span<const std::byte> bytes);

  AtomicFile file_;
  ContentHash payload_;
};

/// Collects tokens for TokenStore::in_memory.
class TokenCollector final : public TokenSink {
 public:
  explicit TokenCollector(const TokenFileInfo& info) : TokenSink(info) {}
  /// Closes the last document. Once.
  std::shared_ptr<const TokenStore> finish();

 private:
  void store(std::span<const std::uint32_t> ids) override;

  std::vector<std::uint32_t> tokens_;
};

}  // namespace headway::data
