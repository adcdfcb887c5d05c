// Cuts a stream of tokens into training samples of equal length.
// Not for: the order of samples (train_loader.h) or tensors (batch.h).
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "headway/data/token_store.h"

namespace headway::data {

/// Label of a token that predicts nothing.
inline constexpr std::int64_t kIgnoredLabel = -100;

/// Tokens [begin, end) of a store.
struct TokenRange {
  std::int64_t begin = 0;
  std::int64_t end = 0;
  std::int64_t size() const { return end - begin; }
  bool operator==(const TokenRange&) const = default;
};

struct PackingRule {
  std::int64_t sequence_length = 0;  // token slots of a sample
  /// false: attention and positions restart where a document starts, and the last token of a
  /// document predicts nothing. true: a sample is one run of tokens, whatever documents they are
  /// of.
  bool cross_document = false;
  /// true: a sample is whole documents, as many as fit, each a sequence of its own; a document
  /// longer than sequence_length loses its end. For conversations, of which a part says little.
  bool whole_documents = false;
};

/// What becomes of the end of the range when it is no multiple of sequence_length.
enum class LastSample {
  kOverlap,  // it moves back until it is full; what it repeats has no labels (training)
  kShort,    // it is shorter (evaluation)
};

/// Sample i holds the tokens [i*T, (i+1)*T) of the range, T = sequence_length: no slot is padding,
/// and a document that does not fit goes on in the next sample as a sequence of its own. Labels are
/// *already shifted*: labels[t] is the token after input_ids[t], taken from beyond the sample if
/// the document goes on there, or kIgnoredLabel at the end of a document (unless cross_document)
/// and at the end of the range. So every token of the range but the first of each document is
/// predicted exactly once, whichever LastSample is chosen.
/// With whole_documents a sample holds up to T tokens: the longest document that is left opens it,
/// the longest that still fit fill it up (best fit decreasing), so few slots stay empty. Tokens
/// that the store does not count as learned are nobody's label. Source: Ding et al. 2024 (best-fit
/// packing). Test: tests/property/data/packing_test.cpp, tests/unit/data/chat_data_test.cpp
class PackedSamples {
 public:
  /// Errors: ConfigError if the range holds fewer than max(T, 2) tokens (message names both), or if
  /// no token of it predicts anything. With whole_documents the range must start and end at
  /// documents.
  PackedSamples(std::shared_ptr<const TokenStore> store, TokenRange range, PackingRule rule,
                LastSample last);

  std::int64_t size() const { return size_; }
  std::int64_t length(std::int64_t sample) const;
  const PackingRule& rule() const { return rule_; }
  const TokenRange& range() const { return range_; }
  const TokenStore& store() const { return *store_; }
  /// With whole_documents: documents that lost their end, and those left out because nothing of
  /// what was left is learned.
  std::int64_t cut_documents() const { return cut_documents_; }
  std::int64_t empty_documents() const { return empty_documents_; }

  /// Fills input_ids and labels, both of length(sample), and appends the lengths of the sequences
  /// in the sample to `lengths`. Returns the number of labels that are not kIgnoredLabel.
  std::int64_t read(std::int64_t sample, std::span<std::int64_t> input_ids,
                    std::span<std::int64_t> labels, std::vector<std::int64_t>& lengths) const;

 private:
  std::int64_t first_token(std::int64_t sample) const;
  void plan_documents();
  std::int64_t read_documents(std::int64_t sample, std::span<std::int64_t> input_ids,
                              std::span<std::int64_t> labels,
                              std::vector<std::int64_t>& lengths) const;
  bool learns(const TokenRange& tokens) const;
  void forget_unlearned(std::int64_t first, std::span<std::int64_t> labels) const;

  std::shared_ptr<const TokenStore> store_;
  TokenRange range_;
  PackingRule rule_;
  LastSample last_;
  std::int64_t size_ = 0;
  std::vector<std::vector<TokenRange>> plan_;  // whole_documents: those of every sample
  std::int64_t cut_documents_ = 0;
  std::int64_t empty_documents_ = 0;
};

struct TrainValidationSplit {
  TokenRange train;
  TokenRange validation;  // empty if the fraction is 0
};

/// The same by whole documents: the last `fraction` of them, but at least one.
/// Errors: ConfigError if either part has none.
TrainValidationSplit split_documents(const TokenStore& store, double fraction);

/// The last `fraction` of `tokens` tokens, but at least one sequence, is for validation.
/// Errors: ConfigError if either part is shorter than a sequence, naming the numbers.
TrainValidationSplit split_tokens(std::int64_t tokens, double fraction,
                                  std::int64_t sequence_length);

}  // namespace headway::data
