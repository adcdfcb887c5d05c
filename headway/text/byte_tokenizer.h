// The built-in tokenizer: every byte is a token and its value is the id.
// Not for: anything that needs special tokens; it has none.
#pragma once

#include "headway/text/tokenizer.h"

namespace headway::text {

/// 256 ids, no specials, any bytes in and the same bytes out. id_to_token gives "<0xHH>".
class ByteTokenizer final : public Tokenizer {
 public:
  static constexpr std::int64_t kVocabSize = 256;
  /// The `tokenizer_class` of the tokenizer_config.json that save() writes.
  static constexpr std::string_view kClassName = "HeadwayBytes";

  std::vector<std::int64_t> encode(std::string_view text, bool add_special) const override;
  Encoding encode_with_offsets(std::string_view text, bool add_special) const override;
  std::string decode_bytes(std::span<const std::int64_t> ids, bool skip_special) const override;
  std::unique_ptr<StreamDecoder> stream_decoder(bool skip_special) const override;
  std::int64_t vocab_size() const override { return kVocabSize; }
  std::optional<std::string> id_to_token(std::int64_t id) const override;
  std::optional<std::int64_t> token_to_id(std::string_view token) const override;
  std::optional<std::int64_t> bos_id() const override { return std::nullopt; }
  std::optional<std::int64_t> eos_id() const override { return std::nullopt; }
  bool is_concatenative() const override { return true; }
  std::string fingerprint() const override { return "headway-bytes-1"; }
  void save(const std::filesystem::path& folder) const override;
};

}  // namespace headway::text
