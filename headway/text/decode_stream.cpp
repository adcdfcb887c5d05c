// The window of the reference, and a shortcut for byte-level decoders.
// Not for: decoding itself.
#include "headway/text/decode_stream.h"

#include <fmt/format.h>

#include "headway/text/json_tokenizer.h"
#include "headway/text/utf8.h"

namespace headway::text {
namespace {

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";

// True if the repaired form of `bytes` does not end in U+FFFD. Looks at the last character only:
// what begins a character cannot be a part of another.
bool ends_cleanly(std::string_view bytes) {
  std::size_t begin = bytes.size() - 1;
  while (begin > 0 && bytes.size() - begin < 4 &&
         (static_cast<unsigned char>(bytes[begin]) & 0xC0) == 0x80) {
    --begin;
  }
  const Utf8Step step = utf8_step(bytes, begin);
  return step.kind == Utf8Kind::kValid && begin + step.length == bytes.size() &&
         bytes.substr(begin) != kReplacement;
}

}  // namespace

WindowStream::WindowStream(const JsonTokenizer& tokenizer, bool skip_special)
    : tokenizer_(tokenizer),
      skip_special_(skip_special),
      byte_level_(is_byte_level(tokenizer.decoder_)) {}

std::string WindowStream::decode(std::span<const std::int64_t> ids) const {
  return tokenizer_.decode(ids, skip_special_);
}

std::string WindowStream::push(std::int64_t id) {
  const std::string* token = tokenizer_.spelling(id, skip_special_);
  if (token == nullptr) return {};
  return byte_level_ ? push_bytes(*token) : push_window(id);
}

std::string WindowStream::push_bytes(const std::string& token) {
  append_byte_level(token, bytes_);
  if (bytes_.empty() || !ends_cleanly(bytes_)) return {};
  std::string text = repair_utf8(bytes_);
  bytes_.clear();
  return text;
}

std::string WindowStream::push_window(std::int64_t id) {
  if (prefix_.empty() && !window_.empty()) {
    std::string text = decode(window_);
    if (!text.ends_with(kReplacement)) {
      prefix_ = std::move(text);
      prefix_ids_ = window_.size();
    }
  }
  window_.push_back(id);
  std::string text = decode(window_);
  if (text.size() <= prefix_.size() || text.ends_with(kReplacement)) return {};
  if (!text.starts_with(prefix_)) {
    broken_ = fmt::format(
        "Invalid prefix encountered while decoding stream. Token ID: {}, Expected prefix: '{}', "
        "Actual string: '{}'",
        id, prefix_, text);
    window_.clear();
    prefix_.clear();
    prefix_ids_ = 0;
    return push_window(id);
  }
  text.erase(0, prefix_.size());
  const std::size_t kept = window_.size() - prefix_ids_;
  window_.erase(window_.begin(), window_.begin() + static_cast<std::ptrdiff_t>(prefix_ids_));
  prefix_ = decode(window_);
  prefix_ids_ = kept;
  return text;
}

std::string WindowStream::finish() {
  std::string text;
  if (byte_level_) {
    text = repair_utf8(bytes_);
  } else {
    text = decode(window_);
    text = text.starts_with(prefix_) ? text.substr(prefix_.size()) : std::string();
  }
  bytes_.clear();
  window_.clear();
  prefix_.clear();
  prefix_ids_ = 0;
  broken_.reset();
  return text;
}

}  // namespace headway::text
