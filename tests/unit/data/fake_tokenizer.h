// Tokenizers with the properties that the byte tokenizer lacks.
// Not for: encoding anything real.
#pragma once

#include "headway/text/byte_tokenizer.h"

namespace headway::data {

/// Words separated by spaces; the id is the length of the word. Puts BOS before a text, has an EOS,
/// and needs whole documents.
class LengthTokenizer : public text::Tokenizer {
 public:
  explicit LengthTokenizer(std::int64_t vocab_size) : vocab_size_(vocab_size) {}
  static constexpr std::int64_t kBos = 0;
  static constexpr std::int64_t kEos = 1;

  std::vector<std::int64_t> encode(std::string_view text, bool add_special) const override {
    std::vector<std::int64_t> ids;
    if (add_special) ids.push_back(kBos);
    std::int64_t length = 0;
    for (std::size_t i = 0; i <= text.size(); ++i) {
      const bool ends = i == text.size() || text[i] == ' ';
      if (ends && length > 0) ids.push_back(length + 1);
      length = ends ? 0 : length + 1;
    }
    return ids;
  }
  text::Encoding encode_with_offsets(std::string_view text, bool add_special) const override {
    return {encode(text, add_special), {}};
  }
  std::string decode_bytes(std::span<const std::int64_t>, bool) const override { return {}; }
  std::unique_ptr<text::StreamDecoder> stream_decoder(bool) const override { return nullptr; }
  std::int64_t vocab_size() const override { return vocab_size_; }
  std::optional<std::string> id_to_token(std::int64_t) const override { return std::nullopt; }
  std::optional<std::int64_t> token_to_id(std::string_view) const override { return std::nullopt; }
  std::optional<std::int64_t> bos_id() const override { return kBos; }
  std::optional<std::int64_t> eos_id() const override { return kEos; }
  bool is_concatenative() const override { return false; }
  std::string fingerprint() const override { return "length-" + std::to_string(vocab_size_); }
  void save(const std::filesystem::path&) const override {}

 private:
  std::int64_t vocab_size_;
};

}  // namespace headway::data
