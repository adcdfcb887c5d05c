// Encoding and decoding with the stages of a tokenizer.json.
// Not for: reading the file (json_tokenizer_parse.cpp) or the stages themselves.
#include "headway/text/json_tokenizer.h"

#include <algorithm>
#include <limits>

#include <fmt/format.h>

#include "headway/base/error.h"
#include "headway/base/text_util.h"
#include "headway/text/decode_stream.h"
#include "headway/text/json_workspace.h"
#include "headway/text/utf8.h"

namespace headway::text {
namespace {

/// Bytes of the original to code points. Positions inside a character count as its own.
class CharacterIndex {
 public:
  explicit CharacterIndex(std::string_view text) : size_(static_cast<std::uint32_t>(text.size())) {
    const auto is_ascii = [](char byte) { return static_cast<unsigned char>(byte) < 0x80; };
    if (std::all_of(text.begin(), text.end(), is_ascii)) return;
    index_.resize(text.size());
    std::uint32_t count = 0;
    for (std::size_t i = 0; i < text.size(); ++i) {
      if ((static_cast<unsigned char>(text[i]) & 0xC0) != 0x80) ++count;
      index_[i] = count - 1;
    }
  }

  Offset offset_of(Span span) const {
    if (span.begin >= size_) return {span.begin, span.end};
    const std::int64_t begin = at(span.begin);
    if (span.end < size_) return {begin, at(span.end)};
    return {begin, (span.end == 0 ? begin : at(std::min(span.end, size_) - 1)) + 1};
  }

 private:
  std::int64_t at(std::uint32_t byte) const { return index_.empty() ? byte : index_[byte]; }

  std::uint32_t size_;
  std::vector<std::uint32_t> index_;
};

}  // namespace

/// A workspace of the pool, given back at the end of the scope.
class JsonTokenizer::Borrowed {
 public:
  explicit Borrowed(const JsonTokenizer& owner) : owner_(owner) {
    const std::lock_guard lock(owner.pool_mutex_);
    if (!owner.pool_.empty()) {
      work_ = std::move(owner.pool_.back());
      owner.pool_.pop_back();
    }
    if (!work_) work_ = std::make_unique<Workspace>();
  }
  ~Borrowed() {
    const std::lock_guard lock(owner_.pool_mutex_);
    owner_.pool_.push_back(std::move(work_));
  }
  Borrowed(const Borrowed&) = delete;
  Borrowed& operator=(const Borrowed&) = delete;
  Workspace& operator*() const { return *work_; }

 private:
  const JsonTokenizer& owner_;
  std::unique_ptr<Workspace> work_;
};

void JsonTokenizer::run_stages(std::string_view text, bool with_offsets, Workspace& work) const {
  if (text.size() >= std::numeric_limits<std::uint32_t>::max() / 8) {
    throw ConfigError(fmt::format("[tokenizer] text = {}, allowed less than 512 MiB at once",
                                  format_bytes(static_cast<std::int64_t>(text.size()))));
  }
  if (find_invalid_utf8(text)) {
    work.repaired = repair_utf8(text);
    text = work.repaired;
  }
  Document& document = work.document;
  document.reset(text, with_offsets || always_align_);
  added_.extract(document, false);
  normalize(normalizer_, document);
  added_.extract(document, true);
  pre_tokenize(pre_tokenizer_, document);
  if (!std::holds_alternative<BpeModel>(*model_)) write_byte_alphabet(document);
}

std::vector<std::int64_t> JsonTokenizer::encode(std::string_view text, bool add_special) const {
  const Borrowed borrowed(*this);
  Workspace& work = *borrowed;
  run_stages(text, false, work);
  std::vector<std::int64_t> ids;
  ids.reserve(work.document.text.size() / 3);
  for (const Piece& piece : work.document.pieces) {
    if (piece.token != kNoToken) {
      ids.push_back(piece.token);
      continue;
    }
    work.tokens.clear();
    tokenize_piece(*model_, work.document.view(piece), work.document.byte_level, work.scratch,
                   work.tokens);
    for (const Token& token : work.tokens) ids.push_back(token.id);
  }
  if (!add_special) return ids;
  return add_special_tokens(post_processor_, {std::move(ids), {}}).ids;
}

Encoding JsonTokenizer::encode_plain(std::string_view text) const {
  const Borrowed borrowed(*this);
  Workspace& work = *borrowed;
  run_stages(text, true, work);
  const Document& document = work.document;
  const CharacterIndex characters(text.data() == nullptr || work.repaired.empty() ||
                                          !find_invalid_utf8(text)
                                      ? text
                                      : std::string_view(work.repaired));
  Encoding encoding;
  std::vector<std::string_view> spellings;
  const bool trims = trims_offsets(post_processor_);
  const auto place = [&](std::uint32_t id, Span span, std::string_view spelled) {
    encoding.ids.push_back(id);
    Span origin{span.begin, span.end};
    if (span.size() > 0) {
      origin = {document.origin_of(span.begin).begin, document.origin_of(span.end - 1).end};
    }
    encoding.offsets.push_back(characters.offset_of(origin));
    if (trims) spellings.push_back(spelled);
  };
  for (const Piece& piece : document.pieces) {
    if (piece.token != kNoToken) {
      place(piece.token, piece.text, document.view(piece));
      continue;
    }
    work.tokens.clear();
    tokenize_piece(*model_, document.view(piece), document.byte_level, work.scratch, work.tokens);
    for (const Token& token : work.tokens) {
      const std::string* spelled = vocabulary_of(*model_).token_of(token.id);
      place(token.id, {piece.text.begin + token.begin, piece.text.begin + token.end}, *spelled);
    }
  }
  trim_offsets(
      post_processor_, [&](std::size_t i) { return spellings[i]; }, encoding.offsets);
  return encoding;
}

Encoding JsonTokenizer::encode_with_offsets(std::string_view text, bool add_special) const {
  Encoding encoding = encode_plain(text);
  return add_special ? add_special_tokens(post_processor_, std::move(encoding)) : encoding;
}

Encoding JsonTokenizer::encode_pair(std::string_view first, std::string_view second,
                                    bool add_special) const {
  return join_pair(post_processor_, encode_plain(first), encode_plain(second), add_special);
}

std::vector<Encoding> JsonTokenizer::encode_padded(std::string_view text, bool add_special) const {
  std::vector<Encoding> windows{encode_plain(text)};
  if (truncation_) {
    const std::size_t added = add_special ? count_special_tokens(post_processor_, false) : 0;
    windows = truncate(*truncation_, windows[0], added);
  }
  for (Encoding& window : windows) {
    if (add_special) window = add_special_tokens(post_processor_, std::move(window));
  }
  if (padding_) pad(*padding_, windows);
  return windows;
}

const std::string* JsonTokenizer::spelling(std::int64_t id, bool skip_special) const {
  const std::string* spelled = added_.spelling_of(id);
  if (spelled == nullptr) spelled = vocabulary_of(*model_).token_of(id);
  if (spelled != nullptr && skip_special && added_.is_special(*spelled)) return nullptr;
  return spelled;
}

std::string JsonTokenizer::decode_bytes(std::span<const std::int64_t> ids,
                                        bool skip_special) const {
  const bool bytes_only = is_byte_level(decoder_);
  std::string bytes;
  std::vector<std::string> tokens;
  for (const std::int64_t id : ids) {
    const std::string* token = spelling(id, skip_special);
    if (token == nullptr) continue;
    if (bytes_only) {
      append_byte_level(*token, bytes);
    } else {
      tokens.push_back(*token);
    }
  }
  return bytes_only ? bytes : decode_tokens(decoder_, std::move(tokens));
}

std::unique_ptr<StreamDecoder> JsonTokenizer::stream_decoder(bool skip_special) const {
  return std::make_unique<WindowStream>(*this, skip_special);
}

std::int64_t JsonTokenizer::vocab_size() const {
  return static_cast<std::int64_t>(std::max(vocabulary_of(*model_).id_limit(), added_.id_limit()));
}

std::optional<std::string> JsonTokenizer::id_to_token(std::int64_t id) const {
  if (const AddedToken* added = added_.token_of(id)) return added->content;
  const std::string* token = vocabulary_of(*model_).token_of(id);
  if (token == nullptr) return std::nullopt;
  return *token;
}

std::optional<std::int64_t> JsonTokenizer::token_to_id(std::string_view token) const {
  if (const auto id = added_.id_of(token)) return *id;
  if (const auto id = vocabulary_of(*model_).id_of(token)) return *id;
  return std::nullopt;
}

}  // namespace headway::text
