// What every tokenizer can do: text to ids and back, whole or streamed, and who it is.
// Not for: reading tokenizer files (tokenizer_factory.h) or chat templates.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace headway::text {

/// Half-open range of code points of the encoded text. Bytes that are not UTF-8 count as one code
/// point per maximal subpart.
struct Offset {
  std::int64_t begin = 0;
  std::int64_t end = 0;
  bool operator==(const Offset&) const = default;
};

struct Encoding {
  std::vector<std::int64_t> ids;
  std::vector<Offset> offsets;  // one per id; a token that is part of a character covers it whole
};

/// Text of ids that arrive one by one. The concatenation of every push and of finish equals
/// Tokenizer::decode of all ids; no result ends inside a character.
class StreamDecoder {
 public:
  virtual ~StreamDecoder() = default;
  /// Text that `id` completes, often empty.
  virtual std::string push(std::int64_t id) = 0;
  /// What is still held back, repaired with U+FFFD; the decoder starts anew.
  virtual std::string finish() = 0;
};

/// Immutable and usable from several threads at once. Ids lie in [0, vocab_size()).
class Tokenizer {
 public:
  virtual ~Tokenizer() = default;

  /// Ids of `text`; `add_special` lets the tokenizer add what it puts around a text (such as BOS).
  virtual std::vector<std::int64_t> encode(std::string_view text, bool add_special) const = 0;
  virtual Encoding encode_with_offsets(std::string_view text, bool add_special) const = 0;

  /// Bytes of `ids`, which need not be UTF-8. Ids outside the vocabulary give nothing;
  /// `skip_special` leaves special tokens out.
  virtual std::string decode_bytes(std::span<const std::int64_t> ids, bool skip_special) const = 0;
  /// decode_bytes with what is not UTF-8 replaced by U+FFFD, one per maximal subpart.
  std::string decode(std::span<const std::int64_t> ids, bool skip_special) const;
  virtual std::unique_ptr<StreamDecoder> stream_decoder(bool skip_special) const = 0;

  virtual std::int64_t vocab_size() const = 0;
  /// The token's own spelling in its vocabulary; nullopt for an id that has none.
  virtual std::optional<std::string> id_to_token(std::int64_t id) const = 0;
  virtual std::optional<std::int64_t> token_to_id(std::string_view token) const = 0;
  virtual std::optional<std::int64_t> bos_id() const = 0;
  virtual std::optional<std::int64_t> eos_id() const = 0;

  /// True if encode(a + b) == encode(a) + encode(b) for every a and b, so that long texts may be
  /// encoded in pieces.
  virtual bool is_concatenative() const = 0;

  /// Changes whenever the tokenizer may give other ids: cached tokens carry it.
  virtual std::string fingerprint() const = 0;

  /// Writes the files from which load_tokenizer makes this tokenizer again. `folder` exists.
  /// Throws CheckpointError if a file cannot be written.
  virtual void save(const std::filesystem::path& folder) const = 0;
};

}  // namespace headway::text
