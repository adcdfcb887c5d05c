// Byte-level tokenizer: the identity between bytes and ids.
// Not for: byte-level BPE, which has a vocabulary on top of bytes.
#include "headway/text/byte_tokenizer.h"

#include <fmt/format.h>

#include "headway/base/atomic_file.h"
#include "headway/base/json.h"
#include "headway/text/utf8.h"

namespace headway::text {
namespace {

bool is_byte(std::int64_t id) { return id >= 0 && id < ByteTokenizer::kVocabSize; }

class ByteStreamDecoder final : public StreamDecoder {
 public:
  std::string push(std::int64_t id) override {
    if (!is_byte(id)) return {};
    const char byte = static_cast<char>(id);
    return stream_.push({&byte, 1});
  }
  std::string finish() override { return stream_.finish(); }

 private:
  Utf8Stream stream_;
};

}  // namespace

std::vector<std::int64_t> ByteTokenizer::encode(std::string_view text, bool) const {
  std::vector<std::int64_t> ids(text.size());
  for (std::size_t i = 0; i < text.size(); ++i) ids[i] = static_cast<unsigned char>(text[i]);
  return ids;
}

Encoding ByteTokenizer::encode_with_offsets(std::string_view text, bool add_special) const {
  Encoding encoding{encode(text, add_special), {}};
  encoding.offsets.reserve(text.size());
  std::int64_t character = 0;
  for (std::size_t position = 0; position < text.size(); ++character) {
    const std::size_t length = utf8_step(text, position).length;
    encoding.offsets.insert(encoding.offsets.end(), length, Offset{character, character + 1});
    position += length;
  }
  return encoding;
}

std::string ByteTokenizer::decode_bytes(std::span<const std::int64_t> ids, bool) const {
  std::string bytes;
  bytes.reserve(ids.size());
  for (const std::int64_t id : ids) {
    if (is_byte(id)) bytes += static_cast<char>(id);
  }
  return bytes;
}

std::unique_ptr<StreamDecoder> ByteTokenizer::stream_decoder(bool) const {
  return std::make_unique<ByteStreamDecoder>();
}

std::optional<std::string> ByteTokenizer::id_to_token(std::int64_t id) const {
  if (!is_byte(id)) return std::nullopt;
  return fmt::format("<0x{:02X}>", id);
}

std::optional<std::int64_t> ByteTokenizer::token_to_id(std::string_view token) const {
  for (std::int64_t id = 0; id < kVocabSize; ++id) {
    if (id_to_token(id) == token) return id;
  }
  return std::nullopt;
}

void ByteTokenizer::save(const std::filesystem::path& folder) const {
  const Json config{{"tokenizer_class", kClassName}};
  write_file_atomically((folder / "tokenizer_config.json").string(), config.dump(2) + "\n");
}

}  // namespace headway::text
