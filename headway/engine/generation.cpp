// Tokens, text and the end of one request. Not for: the model.
#include "headway/engine/generation.h"

#include <algorithm>

#include "headway/base/error.h"
#include "headway/config/mtp_config.h"

namespace headway::engine {
namespace {

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

}  // namespace

double GenerateTiming::decode_tokens_per_second() const {
  return new_tokens > 1 && decode_seconds > 0 ? static_cast<double>(new_tokens - 1) / decode_seconds
                                              : 0.0;
}

double DraftCounts::acceptance() const {
  return drafted > 0 ? static_cast<double>(accepted) / static_cast<double>(drafted) : 0.0;
}

void check_generation(const std::vector<int64_t>& prompt, const GenerateOptions& options,
                      int64_t vocab_size, bool has_tokenizer) {
  if (prompt.empty()) throw ConfigError("[generate] prompt = 0 tokens, allowed at least 1");
  for (const int64_t id : prompt) {
    if (id < 0 || id >= vocab_size) {
      throw ConfigError("[generate] token id = " + std::to_string(id) + ", allowed 0 to " +
                        std::to_string(vocab_size - 1));
    }
  }
  if (options.max_new_tokens < 0) {
    throw ConfigError("[generate] --max-new-tokens = " + std::to_string(options.max_new_tokens) +
                      ", allowed 0 or more");
  }
  if (options.draft_tokens < 0 || options.draft_tokens > config::kMaxMtpDepths) {
    throw ConfigError("[generate] --draft-tokens = " + std::to_string(options.draft_tokens) +
                      ", allowed 0 to " + std::to_string(config::kMaxMtpDepths));
  }
  check_sampler(options.sampler);
  if (!options.stop.empty() && !has_tokenizer)
    throw ConfigError("[generate] --stop: allowed only with a tokenizer");
}

Generation::Generation(const std::vector<int64_t>& prompt, const GenerateOptions& options,
                       const text::Tokenizer* tokenizer, TextCallback on_text)
    : options_(&options),
      decoder_(tokenizer == nullptr ? nullptr : tokenizer->stream_decoder(true)),
      stops_(options.stop),
      on_text_(std::move(on_text)),
      finished_(options.max_new_tokens == 0),
      start_(Clock::now()) {
  result_.token_ids = prompt;
  result_.timing.prompt_tokens = static_cast<int64_t>(prompt.size());
}

int64_t Generation::advance(const at::Tensor& logits_V) {
  const auto position = static_cast<uint64_t>(result_.token_ids.size());
  const int64_t id = sample_token(logits_V, result_.token_ids, options_->sampler,
                                  {options_->seed, options_->request, position});
  result_.token_ids.push_back(id);
  GenerateTiming& timing = result_.timing;
  if (++timing.new_tokens == 1) {
    timing.prefill_seconds = seconds_since(start_);
    start_ = Clock::now();
  }
  finished_ = timing.new_tokens >= options_->max_new_tokens;
  const auto& ends = options_->stop_ids;
  if (std::find(ends.begin(), ends.end(), id) != ends.end()) {
    result_.finish = FinishReason::kStopId;
    finished_ = true;
    return id;
  }
  if (decoder_) emit(stops_.push(decoder_->push(id)));
  if (stops_.stopped()) {
    result_.finish = FinishReason::kStopString;
    finished_ = true;
  }
  return id;
}

GenerateResult Generation::take(int64_t state_bytes) {
  if (result_.timing.new_tokens > 0) result_.timing.decode_seconds = seconds_since(start_);
  if (decoder_) {
    emit(stops_.push(decoder_->finish()));
    emit(stops_.finish());
  }
  result_.state_bytes = state_bytes;
  return std::move(result_);
}

void Generation::emit(const std::string& piece) {
  if (piece.empty()) return;
  result_.text += piece;
  if (on_text_) on_text_(piece);
}

}  // namespace headway::engine
