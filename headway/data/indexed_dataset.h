// Megatron's token datasets: PREFIX.bin with the tokens, PREFIX.idx with where sequences and
// documents lie. Not for: our own token files (token_store.h), nor multimodal content.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "headway/base/atomic_file.h"
#include "headway/base/mapped_file.h"
#include "headway/data/token_writer.h"

namespace headway::data {

/// The .idx of the dataset `path` means (PREFIX, PREFIX.bin or PREFIX.idx), or an empty path if no
/// pair of such files is there.
std::filesystem::path find_index(const std::filesystem::path& path);
/// The .bin of an .idx.
std::filesystem::path bin_of(const std::filesystem::path& index);

/// A mapped dataset. Layout of .idx, little-endian and unpadded: "MMIDIDX\0\0", uint64 version = 1,
/// uint8 type of the tokens, uint64 sequences S, uint64 entries D of the document table, int32
/// lengths[S], int64 byte offsets into .bin [S], int64 first sequence of every document [D] (the
/// last entry is S), and maybe int8 modes[S], which are passed over.
/// Source: Megatron-Core, megatron/core/datasets/indexed_dataset.py.
/// Test: tests/unit/data/indexed_dataset_test.cpp, tests/fuzz/data/indexed_fuzz_test.cpp
class IndexedDataset {
 public:
  /// Maps and checks everything but the token ids. Errors: CheckpointError naming the file and what
  /// is wrong; UnsupportedError for tokens that are no integers.
  explicit IndexedDataset(const std::filesystem::path& index);

  std::int64_t num_sequences() const { return static_cast<std::int64_t>(lengths_.size()); }
  std::int64_t num_tokens() const { return num_tokens_; }

  /// Hands over every document, in pieces of at most 64 Ki tokens; `last` closes it.
  using TokensCallback = std::function<void(std::span<const std::int64_t> ids, bool last)>;
  /// Errors: CheckpointError for an id outside [0, vocab_size), or if a file has shrunk meanwhile.
  void read(std::int64_t vocab_size, const TokensCallback& callback) const;

 private:
  void parse();
  void check_sequences() const;
  void read_sequence(std::size_t sequence, std::int64_t vocab_size,
                     const TokensCallback& callback) const;

  std::string name_;
  MappedFile index_;
  MappedFile tokens_;
  int type_ = 0;
  std::int64_t token_bytes_ = 0;
  std::int64_t num_tokens_ = 0;
  std::vector<std::int32_t> lengths_;
  std::vector<std::int64_t> offsets_;
  std::vector<std::int64_t> documents_;  // first sequence of each, and at last num_sequences()
};

/// Writes PREFIX.bin and PREFIX.idx, one sequence a document. Both get their names on commit, the
/// index last. Tokens are uint16 below 65500 ids, else int32, as Megatron chooses.
/// Errors: CheckpointError if writing fails; UnsupportedError for a vocabulary beyond int32 or a
/// document of 2^31 tokens.
class IndexedWriter final : public TokenSink {
 public:
  IndexedWriter(const std::string& prefix, const TokenFileInfo& info);
  void commit();

 private:
  void store(std::span<const std::uint32_t> ids) override;

  std::string prefix_;
  bool is_narrow_;
  AtomicFile tokens_;
  AtomicFile index_;
};

}  // namespace headway::data
