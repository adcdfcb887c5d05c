// One request under way: its tokens, its text, when it ends. Shared by the loops that produce
// tokens one request at a time (generator.h) and many at a time (batch_generator.h).
// Not for: running the model.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

#include "headway/engine/sampler.h"
#include "headway/engine/stop_strings.h"
#include "headway/text/tokenizer.h"

namespace headway::engine {

struct GenerateOptions {
  int64_t max_new_tokens = 0;
  SamplerOptions sampler;
  uint64_t seed = 0;
  uint64_t request = 0;           // keys the draws together with seed and position
  std::vector<std::string> stop;  // needs a tokenizer
  std::vector<int64_t> stop_ids;  // end-of-sequence ids; the id itself is kept in the result
  /// Tokens that multi-token prediction guesses at once and one pass of the stack verifies; 0 =
  /// plain decoding. Changes no token.
  int64_t draft_tokens = 0;
};

/// What came of draft tokens.
struct DraftCounts {
  int64_t drafted = 0;
  int64_t accepted = 0;  // equal to the token that plain decoding draws
  int64_t passes = 0;    // of the stack, the prompt's included
  double acceptance() const;
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
  DraftCounts drafts;
};

/// Called with text as it becomes final (UTF-8); never with part of a character or of a stop
/// string.
using TextCallback = std::function<void(const std::string&)>;

/// Errors: ConfigError (empty prompt, ids outside the vocabulary, options out of range, stop
/// strings without a tokenizer).
void check_generation(const std::vector<int64_t>& prompt, const GenerateOptions& options,
                      int64_t vocab_size, bool has_tokenizer);

class Generation {
 public:
  /// The clock starts here. `tokenizer` may be null; `options` must outlive the object.
  Generation(const std::vector<int64_t>& prompt, const GenerateOptions& options,
             const text::Tokenizer* tokenizer, TextCallback on_text = nullptr);

  /// Prompt and new tokens so far.
  const std::vector<int64_t>& token_ids() const { return result_.token_ids; }
  int64_t remaining() const { return options_->max_new_tokens - result_.timing.new_tokens; }
  bool finished() const { return finished_; }

  /// Chooses the next token from logits [V] and appends it; says which. Finishes on the last one.
  int64_t advance(const at::Tensor& logits_V);

  /// The result, once; flushes the text.
  GenerateResult take(int64_t state_bytes);

 private:
  using Clock = std::chrono::steady_clock;
  void emit(const std::string& piece);

  const GenerateOptions* options_;
  std::unique_ptr<text::StreamDecoder> decoder_;
  StopStrings stops_;
  TextCallback on_text_;
  GenerateResult result_;
  bool finished_;
  Clock::time_point start_;
};

}  // namespace headway::engine
