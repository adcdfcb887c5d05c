// From source files to a stream of tokens.
// Not for: keeping them (token_cache.h).
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "headway/data/chat_encoder.h"
#include "headway/data/source_files.h"
#include "headway/data/token_writer.h"
#include "headway/text/tokenizer.h"

namespace headway::data {

struct TokenizeProgress {
  std::int64_t bytes_done = 0;   // of text; markup of JSON lines is not counted
  std::int64_t bytes_total = 0;  // of files, so bytes_done may end below it
  std::int64_t tokens = 0;
};
using ProgressCallback = std::function<void(const TokenizeProgress&)>;

struct TokenizeRequest {
  std::string where = "data";  // configuration key, for messages
  std::vector<SourceFile> files;
  std::string text_field = "text";  // of JSON lines
  std::shared_ptr<const text::Tokenizer> tokenizer;
  std::shared_ptr<const ChatEncoder> chat;  // null: lines hold text
  ProgressCallback progress;                // after every piece of text; may be empty
};

/// What the files hold now. Everything the tokens depend on is in `info`: content and order of the
/// files, their format, the text field if a file is JSON lines, and the tokenizer. Paths are not.
struct SourceContent {
  TokenFileInfo info;
  std::vector<ContentHash::Value> hashes;  // one per file
};
SourceContent inspect_sources(const TokenizeRequest& request);

/// With `chat` every line is a conversation, and every file must be JSON lines. Otherwise:
/// Encodes every document into `sink`, each as the tokenizer encodes a whole text (with what it
/// puts around one), followed by its end-of-text id if it has one and did not put it there. Errors:
/// those of read_documents; CheckpointError if a file no longer has the content it had, or if there
/// is no token at all.
void tokenize(const TokenizeRequest& request, const SourceContent& content, TokenSink& sink);

/// All tokens in memory: for text that is used once, such as `eval --text`.
std::shared_ptr<const TokenStore> tokenize_in_memory(const TokenizeRequest& request);

}  // namespace headway::data
