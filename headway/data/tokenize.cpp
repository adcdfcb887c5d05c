// One pass over the text, encoded in batches on all threads; a tokenizer that allows it sees long
// documents in pieces. Not for: the tokenizer's own speed.
#include "headway/data/tokenize.h"

#include <ATen/Parallel.h>
#include <fmt/format.h>

#include "headway/base/error.h"
#include "headway/data/documents.h"
#include "headway/data/indexed_dataset.h"

namespace headway::data {
namespace {

// Raise when the same files and tokenizer give other tokens than before.
constexpr std::uint64_t kTokenizeVersion = 1;

constexpr std::size_t kBatchBytes = std::size_t{4} << 20;
constexpr std::size_t kBatchPieces = 4096;

/// Collects pieces of text, encodes a batch of them on all threads, and stores the tokens in the
/// order of the text: the result does not depend on the threads.
class DocumentEncoder {
 public:
  DocumentEncoder(const TokenizeRequest& request, TokenSink& sink)
      : request_(request), tokenizer_(*request.tokenizer), sink_(sink) {
    for (const SourceFile& file : request.files) {
      std::error_code error;
      const auto size = std::filesystem::file_size(file.path, error);
      if (!error) progress_.bytes_total += static_cast<std::int64_t>(size);
      if (file.format != SourceFormat::kIndexed) continue;
      const auto tokens = std::filesystem::file_size(bin_of(file.path), error);
      if (!error) progress_.bytes_total += static_cast<std::int64_t>(tokens);
    }
  }

  void take(std::string_view text, bool last) {
    if (pieces_.empty() || pieces_.back().closed) pieces_.emplace_back();
    pieces_.back().text += text;
    pieces_.back().last = last;
    // Only a tokenizer that allows it sees a document in pieces.
    pieces_.back().closed = last || tokenizer_.is_concatenative();
    waiting_ += text.size();
    const bool full = waiting_ >= kBatchBytes || pieces_.size() >= kBatchPieces;
    if (full && pieces_.back().closed) flush();
  }

  void take_conversation(std::string_view line, const std::string& where) {
    Piece& piece = pieces_.emplace_back();
    piece.text = line;
    piece.where = where;
    piece.last = piece.closed = true;
    waiting_ += line.size();
    if (waiting_ >= kBatchBytes || pieces_.size() >= kBatchPieces) flush();
  }

  void take_tokens(std::span<const std::int64_t> ids, bool last) {
    sink_.append(ids);
    if (last) sink_.end_document();
    report(std::ssize(ids));
  }

  void flush() {
    at::parallel_for(0, std::ssize(pieces_), 1, [this](std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin; i < end; ++i) {
        Piece& piece = pieces_[static_cast<std::size_t>(i)];
        if (!piece.where.empty()) {
          EncodedChat chat = request_.chat->encode(tokenizer_, piece.text, piece.where);
          piece.ids = std::move(chat.ids);
          piece.learned = std::move(chat.learned);
        } else if (!piece.text.empty()) {
          piece.ids = tokenizer_.encode(piece.text, true);
        }
      }
    });
    for (const Piece& piece : pieces_) store(piece);
    pieces_.clear();
    waiting_ = 0;
  }

 private:
  struct Piece {
    std::string text;
    bool last = false;    // of its document
    bool closed = false;  // nothing is added to it
    std::vector<std::int64_t> ids;
    std::string where;               // of a conversation, which is encoded as such
    std::vector<TokenSpan> learned;  // likewise
  };

  void store(const Piece& piece) {
    const std::int64_t first = sink_.size();
    if (!piece.ids.empty()) last_id_ = piece.ids.back();
    sink_.append(piece.ids);
    if (!piece.where.empty()) {
      for (const TokenSpan& span : piece.learned) {
        sink_.learn(first + span.begin, first + span.end);
      }
      sink_.end_document();
    } else if (piece.last) {
      finish_document();
    }
    report(std::ssize(piece.text));
  }

  void finish_document() {
    const auto eos = tokenizer_.eos_id();
    if (eos && last_id_ >= 0 && last_id_ != *eos) sink_.append(std::span(&*eos, 1));
    sink_.end_document();
    last_id_ = -1;
  }

  void report(std::int64_t bytes) {
    progress_.bytes_done += bytes;
    progress_.tokens = sink_.size();
    if (request_.progress) request_.progress(progress_);
  }

  const TokenizeRequest& request_;
  const text::Tokenizer& tokenizer_;
  TokenSink& sink_;
  TokenizeProgress progress_;
  std::vector<Piece> pieces_;
  std::size_t waiting_ = 0;    // bytes in pieces_
  std::int64_t last_id_ = -1;  // of the document; -1: none yet
};

ContentHash::Value hash_source(const SourceFile& file) {
  const ContentHash::Value hash = hash_file(file.path);
  if (file.format != SourceFormat::kIndexed) return hash;
  const ContentHash::Value tokens = hash_file(bin_of(file.path));
  return ContentHash().field(hash[0]).field(hash[1]).field(tokens[0]).field(tokens[1]).value();
}

void take_file(const TokenizeRequest& request, const SourceFile& file,
               const ContentHash::Value& expected, DocumentEncoder& encoder) {
  if (file.format == SourceFormat::kIndexed) {
    encoder.flush();
    const IndexedDataset dataset(file.path);
    return dataset.read(
        request.tokenizer->vocab_size(),
        [&](std::span<const std::int64_t> ids, bool last) { encoder.take_tokens(ids, last); });
  }
  const auto read = [&] {
    if (request.chat != nullptr) {
      return read_lines(file, [&](std::string_view line, const std::string& where) {
        encoder.take_conversation(line, where);
      });
    }
    return read_documents(file, request.text_field,
                          [&](std::string_view piece, bool last) { encoder.take(piece, last); });
  };
  if (read() == expected) return;
  throw CheckpointError(fmt::format("[{}] file = changed while it was read, allowed a file at rest",
                                    file.path.string()));
}

}  // namespace

SourceContent inspect_sources(const TokenizeRequest& request) {
  SourceContent content;
  ContentHash key;
  key.field(kTokenizeVersion).field(request.tokenizer->fingerprint()).field(request.files.size());
  if (request.chat != nullptr) key.field(request.chat->fingerprint());
  for (const SourceFile& file : request.files) {
    if (request.chat != nullptr && file.format != SourceFormat::kJsonl) {
      throw ConfigError(
          fmt::format("[{}] {} = no JSON lines, allowed .jsonl and .ndjson files with "
                      "data.chat",
                      request.where, file.path.string()));
    }
    const bool lines = file.format == SourceFormat::kJsonl;
    const ContentHash::Value hash = hash_source(file);
    content.hashes.push_back(hash);
    key.field(static_cast<std::uint64_t>(file.format))
        .field(lines ? request.text_field : "")
        .field(hash[0])
        .field(hash[1]);
  }
  content.info.vocab_size = request.tokenizer->vocab_size();
  content.info.content = key.value();
  content.info.tokenizer = ContentHash().field(request.tokenizer->fingerprint()).value();
  return content;
}

void tokenize(const TokenizeRequest& request, const SourceContent& content, TokenSink& sink) {
  DocumentEncoder encoder(request, sink);
  for (std::size_t i = 0; i < request.files.size(); ++i) {
    take_file(request, request.files[i], content.hashes[i], encoder);
  }
  encoder.flush();
  if (sink.size() == 0) {
    throw CheckpointError(
        fmt::format("[{}] tokens = 0 in {} files, allowed at least 1; hint: every "
                    "file is empty",
                    request.where, request.files.size()));
  }
  if (request.chat != nullptr && !sink.has_learned()) {
    throw CheckpointError(fmt::format(
        "[{}] learned tokens = 0, allowed at least 1; hint: the tokenizer gives no token for what "
        "the assistant says",
        request.where));
  }
}

std::shared_ptr<const TokenStore> tokenize_in_memory(const TokenizeRequest& request) {
  const SourceContent content = inspect_sources(request);
  TokenCollector collector(content.info);
  tokenize(request, content, collector);
  return collector.finish();
}

}  // namespace headway::data
