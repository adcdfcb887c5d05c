// Continues many prompts at once through pages of keys and values: continuous batching.
// Not for: one prompt at a time (generator.h) or page ids (dynamic_context.h).
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "headway/engine/block_pool.h"
#include "headway/engine/generation.h"
#include "headway/nn/transformer.h"
#include "headway/text/tokenizer.h"

namespace headway::engine {

struct BatchOptions {
  int64_t block_size = 64;                  // tokens a page holds of every layer of a kind
  int64_t memory_bytes = int64_t{2} << 30;  // for pages, at most; less is taken if less is needed
  int64_t max_requests = 64;                // requests of one forward
  int64_t max_tokens = 2048;                // tokens of one forward; longer prompts come in chunks
  bool prefix_caching = true;               // equal beginnings of prompts run once
};

struct BatchRequest {
  std::vector<int64_t> prompt;
  GenerateOptions options;
};

struct BatchStatistics {
  int64_t steps = 0;
  int64_t evictions = 0;       // requests that lost their pages and ran again
  int64_t skipped_tokens = 0;  // prompt tokens found in the prefix cache
  int64_t page_bytes = 0;      // of all pages
};

class BatchGenerator {
 public:
  /// `tokenizer` may be null: then there is no text and stop strings are refused.
  BatchGenerator(nn::Transformer& model, std::shared_ptr<const text::Tokenizer> tokenizer,
                 const BatchOptions& options)
      : model_(&model), tokenizer_(std::move(tokenizer)), options_(options) {}

  /// Called once a request, when it is done; `index` counts the requests from 0.
  using ResultCallback = std::function<void(size_t index, GenerateResult result)>;

  /// Requests are started in order and each gives what it gives alone, to rounding
  /// (docs/numerics.md). A model whose layers keep something else than keys and values runs one
  /// prompt after the other. Errors: ConfigError (a request or option out of range, a request that
  /// can never fit).
  BatchStatistics run(const std::vector<BatchRequest>& requests, const ResultCallback& done) const;

 private:
  nn::Transformer* model_;
  std::shared_ptr<const text::Tokenizer> tokenizer_;
  BatchOptions options_;
};

}  // namespace headway::engine
