// The engine of tokenizer.json: added tokens, normalizer, pre-tokenizer, model, post-processor and
// decoder, built once from the file.
// Not for: finding the file (tokenizer_factory.h) or chat templates.
#pragma once

#include <filesystem>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "headway/text/added_tokens.h"
#include "headway/text/decoder.h"
#include "headway/text/model.h"
#include "headway/text/normalizer.h"
#include "headway/text/post_processor.h"
#include "headway/text/pre_tokenizer.h"
#include "headway/text/side_files.h"
#include "headway/text/tokenizer.h"
#include "headway/text/truncation.h"

namespace headway::text {

/// Ids, offsets and decoded text equal those of the Hugging Face `tokenizers` library.
/// Bytes that are not UTF-8 are read as U+FFFD, one per maximal subpart. Truncation and padding of
/// the file are applied by encode_padded only.
/// Source: tokenizers 0.23. Test: tests/golden/text, tests/unit/text/json_tokenizer_test.cpp
class JsonTokenizer final : public Tokenizer {
 public:
  /// From a tokenizer.json alone, or (`with_side_files`) with what stands beside it.
  /// Errors: CheckpointError (damaged; file, key and rule named), UnsupportedError (a component
  /// this build has not).
  static std::shared_ptr<const JsonTokenizer> load(const std::filesystem::path& file,
                                                   bool with_side_files);
  /// From the bytes of a tokenizer.json; `name` stands in messages.
  JsonTokenizer(std::string content, const std::string& name, SideFiles side = {});
  ~JsonTokenizer() override;

  std::vector<std::int64_t> encode(std::string_view text, bool add_special) const override;
  Encoding encode_with_offsets(std::string_view text, bool add_special) const override;
  /// Two texts by the template for pairs.
  Encoding encode_pair(std::string_view first, std::string_view second, bool add_special) const;
  /// encode_with_offsets with truncation and padding as the file says: the text itself, then what
  /// was cut off it, window by window. Errors: ConfigError (no room beside special tokens).
  std::vector<Encoding> encode_padded(std::string_view text, bool add_special) const;

  std::string decode_bytes(std::span<const std::int64_t> ids, bool skip_special) const override;
  std::unique_ptr<StreamDecoder> stream_decoder(bool skip_special) const override;
  std::int64_t vocab_size() const override;
  std::optional<std::string> id_to_token(std::int64_t id) const override;
  std::optional<std::int64_t> token_to_id(std::string_view token) const override;
  std::optional<std::int64_t> bos_id() const override { return bos_; }
  std::optional<std::int64_t> eos_id() const override { return eos_; }
  bool is_concatenative() const override { return false; }
  std::string fingerprint() const override { return fingerprint_; }
  void save(const std::filesystem::path& folder) const override;

  const std::optional<Truncation>& truncation() const { return truncation_; }
  const std::optional<Padding>& padding() const { return padding_; }
  const SideFiles& side_files() const { return side_; }

 private:
  friend class WindowStream;
  struct Workspace;
  class Borrowed;

  void parse(const JsonNode& root);
  void read_added_tokens(const JsonNode& list);
  void add_token(const AddedToken& token, std::int64_t expected, const std::string& file);
  void check_special_ids(const JsonNode& root) const;
  void run_stages(std::string_view text, bool with_offsets, Workspace& work) const;
  Encoding encode_plain(std::string_view text) const;
  /// The token's spelling; nullptr for an id nobody has, or one to be skipped.
  const std::string* spelling(std::int64_t id, bool skip_special) const;

  std::string content_;
  SideFiles side_;
  AddedTokens added_;
  std::vector<Normalizer> normalizer_;
  std::vector<PreTokenizer> pre_tokenizer_;
  std::optional<Model> model_;
  std::vector<PostProcessor> post_processor_;
  std::vector<Decoder> decoder_;
  std::optional<Truncation> truncation_;
  std::optional<Padding> padding_;
  bool always_align_ = false;
  std::optional<std::int64_t> bos_;
  std::optional<std::int64_t> eos_;
  std::string fingerprint_;

  mutable std::mutex pool_mutex_;
  mutable std::vector<std::unique_ptr<Workspace>> pool_;
};

}  // namespace headway::text
