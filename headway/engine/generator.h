// Continues a prompt token by token with the layers' caches; records no autograd.
// Not for: scoring given tokens (evaluator.h) or many prompts in one batch.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "headway/engine/conversation.h"
#include "headway/engine/sampler.h"
#include "headway/nn/transformer.h"
#include "headway/text/tokenizer.h"

namespace headway::engine {

struct GenerateOptions {
  int64_t max_new_tokens = 0;
  SamplerOptions sampler;
  uint64_t seed = 0;
  uint64_t request = 0;           // keys the draws together with seed and position
  std::vector<std::string> stop;  // needs a tokenizer
  std::vector<int64_t> stop_ids;  // end-of-sequence ids; the id itself is kept in the result
};

enum class FinishReason { kLength, kStopId, kStopString };

struct GenerateTiming {
  int64_t prompt_tokens = 0;
  int64_t new_tokens = 0;
  double prefill_seconds = 0.0;  // up to and with the first new token
  double decode_seconds = 0.0;   // the tokens after it
  double decode_tokens_per_second() const;
};

struct GenerateResult {
  std::vector<int64_t> token_ids;  // prompt and new
  std::string text;  // of the new tokens, cut before a stop string; empty without a tokenizer
  FinishReason finish = FinishReason::kLength;
  GenerateTiming timing;
  int64_t state_bytes = 0;  // caches at the end
};

/// Called with text as it becomes final (UTF-8); never with part of a character or of a stop
/// string.
using TextCallback = std::function<void(const std::string&)>;

class Generator {
 public:
  /// `tokenizer` may be null: then there is no text and stop strings are refused.
  Generator(nn::Transformer& model, std::shared_ptr<const text::Tokenizer> tokenizer)
      : model_(&model), tokenizer_(std::move(tokenizer)) {}

  /// Continues `prompt`. With a conversation, only what it has not read yet is read, and it goes on
  /// from there the next time. Same tokens either way.
  /// Errors: ConfigError (empty prompt, ids outside the vocabulary, options out of range).
  GenerateResult run(const std::vector<int64_t>& prompt, const GenerateOptions& options,
                     const TextCallback& on_text = nullptr,
                     Conversation* conversation = nullptr) const;

 private:
  nn::Transformer* model_;
  std::shared_ptr<const text::Tokenizer> tokenizer_;
};

}  // namespace headway::engine
