// Reads and writes .bin/.idx pairs; every number of the index is checked before it is used.
#include "headway/data/indexed_dataset.h"

#include <algorithm>
#include <cstring>

#include <fmt/format.h>

#include "headway/base/checked_math.h"
#include "headway/base/error.h"

namespace headway::data {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kMagic{"MMIDIDX\0\0", 9};
constexpr std::uint64_t kVersion = 1;
constexpr std::int64_t kHeaderBytes = 34;
constexpr std::size_t kPiece = std::size_t{1} << 16;
constexpr std::int64_t kNarrowVocabSize = 65500;
constexpr int kInt32 = 4;
constexpr int kUint16 = 8;

// Bytes of a token by type number: uint8, int8, int16, int32, int64, float64, float32, uint16.
constexpr std::int64_t kTypeBytes[] = {0, 1, 1, 2, 4, 8, 8, 4, 2};

template <class T>
T load(const std::byte* from) {
  T value;
  std::memcpy(&value, from, sizeof(T));
  return value;
}

std::int64_t load_token(const std::byte* from, int type) {
  switch (type) {
    case 1:
      return load<std::uint8_t>(from);
    case 2:
      return load<std::int8_t>(from);
    case 3:
      return load<std::int16_t>(from);
    case kInt32:
      return load<std::int32_t>(from);
    case 5:
      return load<std::int64_t>(from);
    default:
      return load<std::uint16_t>(from);
  }
}

[[noreturn]] void fail(const std::string& name, const std::string& what, std::string_view allowed) {
  throw CheckpointError(fmt::format("[{}] {}, allowed {}", name, what, allowed));
}

template <class T>
std::vector<T> load_all(std::span<const std::byte> bytes, std::int64_t& at, std::int64_t count) {
  std::vector<T> values(static_cast<std::size_t>(count));
  if (count > 0) std::memcpy(values.data(), bytes.data() + at, values.size() * sizeof(T));
  at += count * static_cast<std::int64_t>(sizeof(T));
  return values;
}

template <class T>
void append_value(AtomicFile& file, T value) {
  file.append(std::as_bytes(std::span(&value, 1)));
}

}  // namespace

fs::path bin_of(const fs::path& index) { return fs::path(index).replace_extension(".bin"); }

fs::path find_index(const fs::path& path) {
  fs::path index = path;
  if (path.extension() == ".bin") {
    index.replace_extension(".idx");
  } else if (path.extension() != ".idx") {
    index += ".idx";
  }
  std::error_code ignored;
  const bool both =
      fs::is_regular_file(index, ignored) && fs::is_regular_file(bin_of(index), ignored);
  return both ? index : fs::path();
}

IndexedDataset::IndexedDataset(const fs::path& index)
    : name_(index.string()), index_(index.string()), tokens_(bin_of(index).string()) {
  parse();
  check_sequences();
}

void IndexedDataset::parse() {
  const auto bytes = index_.bytes();
  if (std::ssize(bytes) < kHeaderBytes) {
    fail(name_, fmt::format("size = {} bytes", bytes.size()), "at least 34");
  }
  if (std::memcmp(bytes.data(), kMagic.data(), kMagic.size()) != 0) {
    fail(name_, "first bytes = something else", "MMIDIDX");
  }
  const auto version = load<std::uint64_t>(bytes.data() + 9);
  if (version != kVersion) fail(name_, fmt::format("version = {}", version), "1");
  type_ = load<std::uint8_t>(bytes.data() + 17);
  if (type_ < 1 || type_ > 8) fail(name_, fmt::format("type of tokens = {}", type_), "1 to 8");
  if (type_ == 6 || type_ == 7) {
    throw UnsupportedError(
        fmt::format("[{}] type of tokens = {} (floating point), allowed integers", name_, type_));
  }
  token_bytes_ = kTypeBytes[type_];
  // A count can be at most the size of the file, so the sums below do not overflow.
  const auto count = [&](std::int64_t at, const char* what) {
    const auto value = load<std::uint64_t>(bytes.data() + at);
    if (value > bytes.size())
      fail(name_, fmt::format("{} = {}", what, value), "less than the file's bytes");
    return static_cast<std::int64_t>(value);
  };
  const std::int64_t sequences = count(18, "sequence count");
  const std::int64_t documents = count(26, "document count");
  const std::int64_t expected = kHeaderBytes + sequences * 12 + documents * 8;
  if (std::ssize(bytes) != expected && std::ssize(bytes) != expected + sequences) {
    fail(
        name_, fmt::format("size = {} bytes", bytes.size()),
        fmt::format("{} for {} sequences and {} document entries", expected, sequences, documents));
  }
  std::int64_t at = kHeaderBytes;
  lengths_ = load_all<std::int32_t>(bytes, at, sequences);
  offsets_ = load_all<std::int64_t>(bytes, at, sequences);
  documents_ = load_all<std::int64_t>(bytes, at, documents);
  if (documents_.empty() || documents_.back() != sequences) documents_.push_back(sequences);
  for (const std::int32_t length : lengths_) num_tokens_ += std::max(length, 0);
}

void IndexedDataset::check_sequences() const {
  const std::int64_t size = std::ssize(tokens_.bytes());
  for (std::size_t i = 0; i < lengths_.size(); ++i) {
    if (lengths_[i] < 0) {
      fail(name_, fmt::format("length of sequence {} = {}", i, lengths_[i]), "0 or more");
    }
    const std::int64_t end =
        checked_add(offsets_[i], checked_mul(lengths_[i], token_bytes_, name_), name_);
    if (offsets_[i] < 0 || end > size) {
      fail(name_, fmt::format("sequence {} = bytes {} to {}", i, offsets_[i], end),
           fmt::format("within the {} bytes of the .bin file", size));
    }
  }
  std::int64_t last = 0;
  for (std::size_t i = 0; i < documents_.size(); ++i) {
    if (documents_[i] < last || documents_[i] > num_sequences() || (i == 0 && documents_[i] != 0)) {
      fail(name_, fmt::format("document entry {} = {}", i, documents_[i]),
           fmt::format("0 first, then rising to {}", num_sequences()));
    }
    last = documents_[i];
  }
}

void IndexedDataset::read_sequence(std::size_t sequence, std::int64_t vocab_size,
                                   const TokensCallback& callback) const {
  const std::byte* from = tokens_.bytes().data() + offsets_[sequence];
  const auto length = static_cast<std::size_t>(lengths_[sequence]);
  std::vector<std::int64_t> piece(std::min(length, kPiece));
  for (std::size_t begin = 0; begin < length; begin += kPiece) {
    piece.resize(std::min(kPiece, length - begin));
    for (std::size_t i = 0; i < piece.size(); ++i) {
      piece[i] = load_token(from + (begin + i) * static_cast<std::size_t>(token_bytes_), type_);
      if (piece[i] < 0 || piece[i] >= vocab_size) {
        fail(name_, fmt::format("token {} of sequence {} = {}", begin + i, sequence, piece[i]),
             fmt::format("0 to {}; hint: these tokens are of another tokenizer", vocab_size - 1));
      }
    }
    callback(piece, false);
  }
}

void IndexedDataset::read(std::int64_t vocab_size, const TokensCallback& callback) const {
  for (std::size_t document = 0; document + 1 < documents_.size(); ++document) {
    if (!tokens_.has_same_size()) {
      fail(bin_of(name_).string(), "file = changed while it was read", "a file at rest");
    }
    for (std::int64_t i = documents_[document]; i < documents_[document + 1]; ++i) {
      read_sequence(static_cast<std::size_t>(i), vocab_size, callback);
    }
    callback({}, true);
  }
}

IndexedWriter::IndexedWriter(const std::string& prefix, const TokenFileInfo& info)
    : TokenSink(info),
      prefix_(prefix),
      is_narrow_(info.vocab_size < kNarrowVocabSize),
      tokens_(prefix + ".bin"),
      index_(prefix + ".idx") {
  if (info.vocab_size > std::int64_t{1} << 31) {
    throw UnsupportedError(fmt::format("[{}] vocab_size = {}, allowed at most 2^31 in .bin files",
                                       prefix, info.vocab_size));
  }
}

void IndexedWriter::store(std::span<const std::uint32_t> ids) {
  if (!is_narrow_) return tokens_.append(std::as_bytes(ids));
  const std::vector<std::uint16_t> narrow(ids.begin(), ids.end());
  tokens_.append(std::as_bytes(std::span(narrow)));
}

void IndexedWriter::commit() {
  end_document();
  index_.append(kMagic);
  append_value(index_, kVersion);
  append_value(index_, static_cast<std::uint8_t>(is_narrow_ ? kUint16 : kInt32));
  append_value(index_, std::uint64_t{document_ends_.size()});
  append_value(index_, std::uint64_t{document_ends_.size() + 1});
  std::vector<std::int32_t> lengths;
  std::vector<std::int64_t> offsets;
  std::vector<std::int64_t> documents{0};
  std::uint64_t begin = 0;
  for (const std::uint64_t end : document_ends_) {
    if (end - begin > std::uint64_t{INT32_MAX}) {
      throw UnsupportedError(
          fmt::format("[{}] document = {} tokens, allowed less than 2^31", prefix_, end - begin));
    }
    lengths.push_back(static_cast<std::int32_t>(end - begin));
    offsets.push_back(static_cast<std::int64_t>(begin) * (is_narrow_ ? 2 : 4));
    documents.push_back(std::ssize(lengths));
    begin = end;
  }
  index_.append(std::as_bytes(std::span(lengths)));
  index_.append(std::as_bytes(std::span(offsets)));
  index_.append(std::as_bytes(std::span(documents)));
  tokens_.commit();
  index_.commit();
}

}  // namespace headway::data
