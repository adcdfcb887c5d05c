// Streams tokens to disk; only the table of document ends stays in memory.
// Not for: the meaning of the content hash (token_cache.h).
#include "headway/data/token_writer.h"

#include <cstring>

#include <fmt/format.h>

#include "headway/base/error.h"
#include "headway/data/internal/token_format.h"

namespace headway::data {

TokenSink::TokenSink(const TokenFileInfo& info) : info_(info) {
  if (info.vocab_size < 1 || info.vocab_size > internal::kMaxVocabSize) {
    throw UnsupportedError(
        fmt::format("[token file] vocab_size = {}, allowed 1 to 2^32", info.vocab_size));
  }
}

void TokenSink::append(std::span<const std::int64_t> ids) {
  std::vector<std::uint32_t> narrow(ids.size());
  for (std::size_t i = 0; i < ids.size(); ++i) {
    if (ids[i] < 0 || ids[i] >= info_.vocab_size) {
      throw InternalError(
          fmt::format("[tokenizer] id = {}, allowed 0 to {}", ids[i], info_.vocab_size - 1));
    }
    narrow[i] = static_cast<std::uint32_t>(ids[i]);
  }
  size_ += std::ssize(ids);
  store(narrow);
}

void TokenSink::end_document() {
  const auto end = static_cast<std::uint64_t>(size_);
  if (end > (document_ends_.empty() ? 0 : document_ends_.back())) document_ends_.push_back(end);
}

void TokenSink::learn(std::int64_t begin, std::int64_t end) {
  const auto last = static_cast<std::int64_t>(learned_.empty() ? 0 : learned_.back());
  if (begin < last || begin >= end || end > size_) {
    throw InternalError(fmt::format(
        "[tokenizer] learned tokens = {} to {}, allowed within {} to {}", begin, end, last, size_));
  }
  learned_.push_back(static_cast<std::uint64_t>(begin));
  learned_.push_back(static_cast<std::uint64_t>(end));
}

TokenWriter::TokenWriter(const std::string& path, const TokenFileInfo& info)
    : TokenSink(info), file_(path) {
  const internal::Header blank{};
  file_.append(std::as_bytes(std::span(&blank, 1)));
}

void TokenWriter::append_hashed(std::span<const std::byte> bytes) {
  payload_.update(bytes);
  file_.append(bytes);
}

void TokenWriter::store(std::span<const std::uint32_t> ids) {
  if (internal::bytes_per_token(info_.vocab_size) == 4) {
    append_hashed(std::as_bytes(ids));
    return;
  }
  const std::vector<std::uint16_t> narrow(ids.begin(), ids.end());
  append_hashed(std::as_bytes(std::span(narrow)));
}

void TokenWriter::commit() {
  end_document();
  const std::byte zeros[8] = {};
  const std::int64_t token_bytes = file_.size() - internal::kHeaderBytes;
  append_hashed(std::span(zeros).first(static_cast<std::size_t>(internal::padding(token_bytes))));
  append_hashed(std::as_bytes(std::span(document_ends_)));
  append_hashed(std::as_bytes(std::span(learned_)));

  internal::Header header{};
  std::memcpy(header.magic, internal::kMagic, sizeof(header.magic));
  header.version = internal::kVersion;
  header.bytes_per_token = internal::bytes_per_token(info_.vocab_size);
  header.token_count = static_cast<std::uint64_t>(size());
  header.document_count = document_ends_.size();
  header.learned_count = learned_.size();
  header.vocab_size = static_cast<std::uint64_t>(info_.vocab_size);
  header.content = info_.content;
  header.tokenizer = info_.tokenizer;
  header.payload = payload_.value();
  header.header = internal::header_hash(header);
  file_.overwrite(0, std::as_bytes(std::span(&header, 1)));
  file_.commit();
}

void TokenCollector::store(std::span<const std::uint32_t> ids) {
  tokens_.insert(tokens_.end(), ids.begin(), ids.end());
}

std::shared_ptr<const TokenStore> TokenCollector::finish() {
  end_document();
  return TokenStore::in_memory({std::move(tokens_), std::move(document_ends_), info_.vocab_size,
                                info_.content, info_.tokenizer, std::move(learned_)});
}

}  // namespace headway::data
