// Learns a byte-level BPE vocabulary from text and writes it as a tokenizer.json.
// Not for: using one (json_tokenizer.h).
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace headway::text {

struct BpeTrainerOptions {
  std::int64_t vocab_size = 0;  // 256 bytes, the special tokens, and merges up to this
  std::vector<std::string> special_tokens = {"<|endoftext|>"};  // the first ends a document
  std::int64_t min_count = 1;  // a pair seen less often is not merged
};

/// The most frequent pair of neighbours becomes a token, again and again; ties go to the pair with
/// the lower ids. Text is cut by the pattern of Llama 3. The result depends on the text alone, not
/// on how it was fed. Test: tests/unit/text/bpe_trainer_test.cpp
class BpeTrainer {
 public:
  /// Errors: ConfigError (vocab_size too small or too large, a special token empty or given twice).
  explicit BpeTrainer(BpeTrainerOptions options);

  /// Adds text of the current document; bytes that are not UTF-8 count as U+FFFD.
  void feed(std::string_view text);
  void end_document();

  /// Called with tokens learned so far and wanted.
  using Progress = std::function<void(std::int64_t done, std::int64_t total)>;
  /// The bytes of a tokenizer.json. The vocabulary is smaller than asked for if no pair is left.
  std::string train(const Progress& progress = {});
  /// The bytes of a tokenizer_config.json for it.
  std::string config() const;
  /// Tokens of the last result, special ones included.
  std::int64_t learned() const { return learned_; }

 private:
  void count_words(std::string_view text);

  BpeTrainerOptions options_;
  std::string buffer_;
  std::unordered_map<std::string, std::int64_t> words_;
  std::int64_t learned_ = 0;
};

}  // namespace headway::text
