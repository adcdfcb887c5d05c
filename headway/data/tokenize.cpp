// One pass over the text; a tokenizer that allows it sees long documents in pieces.
// Not for: several threads, yet.
#include "headway/data/tokenize.h"

#include <fmt/format.h>

#include "headway/base/error.h"
#include "headway/data/documents.h"

namespace headway::data {
namespace {

// Raise when the same files and tokenizer give other tokens than before.
constexpr std::uint64_t kTokenizeVersion = 1;

class DocumentEncoder {
 public:
  DocumentEncoder(const TokenizeRequest& request, TokenSink& sink)
      : request_(request), tokenizer_(*request.tokenizer), sink_(sink) {
    for (const SourceFile& file : request.files) {
      std::error_code error;
      const auto size = std::filesystem::file_size(file.path, error);
      if (!error) progress_.bytes_total += static_cast<std::int64_t>(size);
    }
  }

  void take(std::string_view piece, bool last) {
    if (tokenizer_.is_concatenative()) {
      encode(piece);
    } else {
      document_ += piece;
      if (last) encode(document_);
    }
    if (last) finish_document();
    progress_.bytes_done += static_cast<std::int64_t>(piece.size());
    progress_.tokens = sink_.size();
    if (request_.progress) request_.progress(progress_);
  }

 private:
  void encode(std::string_view text) {
    if (text.empty()) return;
    const auto ids = tokenizer_.encode(text, true);
    if (!ids.empty()) last_id_ = ids.back();
    sink_.append(ids);
  }

  void finish_document() {
    const auto eos = tokenizer_.eos_id();
    if (eos && last_id_ >= 0 && last_id_ != *eos) sink_.append(std::span(&*eos, 1));
    sink_.end_document();
    document_.clear();
    last_id_ = -1;
  }

  const TokenizeRequest& request_;
  const text::Tokenizer& tokenizer_;
  TokenSink& sink_;
  TokenizeProgress progress_;
  std::string document_;
  std::int64_t last_id_ = -1;  // of the document; -1: none yet
};

}  // namespace

SourceContent inspect_sources(const TokenizeRequest& request) {
  SourceContent content;
  ContentHash key;
  key.field(kTokenizeVersion).field(request.tokenizer->fingerprint()).field(request.files.size());
  for (const SourceFile& file : request.files) {
    const bool lines = file.format == SourceFormat::kJsonl;
    const ContentHash::Value hash = hash_file(file.path);
    content.hashes.push_back(hash);
    key.field(lines ? 1 : 0).field(lines ? request.text_field : "").field(hash[0]).field(hash[1]);
  }
  content.info.vocab_size = request.tokenizer->vocab_size();
  content.info.content = key.value();
  content.info.tokenizer = ContentHash().field(request.tokenizer->fingerprint()).value();
  return content;
}

void tokenize(const TokenizeRequest& request, const SourceContent& content, TokenSink& sink) {
  DocumentEncoder encoder(request, sink);
  for (std::size_t i = 0; i < request.files.size(); ++i) {
    const auto take = [&](std::string_view piece, bool last) { encoder.take(piece, last); };
    if (read_documents(request.files[i], request.text_field, take) != content.hashes[i]) {
      throw CheckpointError(
          fmt::format("[{}] file = changed while it was read, allowed a file at "
                      "rest",
                      request.files[i].path.string()));
    }
  }
  if (sink.size() == 0) {
    throw CheckpointError(
        fmt::format("[{}] tokens = 0 in {} files, allowed at least 1; hint: every "
                    "file is empty",
                    request.where, request.files.size()));
  }
}

std::shared_ptr<const TokenStore> tokenize_in_memory(const TokenizeRequest& request) {
  const SourceContent content = inspect_sources(request);
  TokenCollector collector(content.info);
  tokenize(request, content, collector);
  return collector.finish();
}

}  // namespace headway::data
