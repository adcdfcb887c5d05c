// The loop that produces tokens with cached state. Not for: choosing a token (sampler).
#include "headway/engine/generator.h"

#include <algorithm>
#include <chrono>

#include <ATen/Functions.h>
#include <ATen/core/grad_mode.h>

#include "headway/base/error.h"
#include "headway/engine/stop_strings.h"

namespace headway::engine {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

void check_request(const std::vector<int64_t>& prompt, const GenerateOptions& options,
                   int64_t vocab, bool has_text) {
  if (prompt.empty()) throw ConfigError("[generate] prompt = 0 tokens, allowed at least 1");
  for (const int64_t id : prompt) {
    if (id < 0 || id >= vocab) {
      throw ConfigError("[generate] token id = " + std::to_string(id) + ", allowed 0 to " +
                        std::to_string(vocab - 1));
    }
  }
  if (options.max_new_tokens < 0) {
    throw ConfigError("[generate] --max-new-tokens = " + std::to_string(options.max_new_tokens) +
                      ", allowed 0 or more");
  }
  check_sampler(options.sampler);
  if (!options.stop.empty() && !has_text)
    throw ConfigError("[generate] --stop: allowed only with a tokenizer");
}

/// Runs the new tokens of one sequence through the model; returns the logits of the last one.
at::Tensor next_logits(nn::Transformer& model, const std::vector<int64_t>& ids,
                       nn::ModelState& state) {
  const auto count = static_cast<int64_t>(ids.size());
  const at::Tensor input = at::tensor(ids, at::kLong).to(model.parameters().device());
  ops::Sequences sequences = ops::continued_sequences({state.num_tokens}, {count});
  sequences.cu_k = sequences.cu_q;
  sequences.max_k = sequences.max_q;
  const at::Tensor h = model.forward(input, sequences, {&state, nullptr});
  return model.logits(h.narrow(0, count - 1, 1)).select(0, 0);
}

/// Text of a generation: decoder, stop strings and the caller's callback in a row.
class TextSink {
 public:
  TextSink(const text::Tokenizer* tokenizer, const GenerateOptions& options,
           const TextCallback& on_text)
      : decoder_(tokenizer == nullptr ? nullptr : tokenizer->stream_decoder(true)),
        stops_(options.stop),
        on_text_(on_text) {}

  void push(int64_t id) {
    if (decoder_) emit(stops_.push(decoder_->push(id)));
  }
  void finish() {
    if (!decoder_) return;
    emit(stops_.push(decoder_->finish()));
    emit(stops_.finish());
  }
  bool stopped() const { return stops_.stopped(); }
  const std::string& text() const { return text_; }

 private:
  void emit(const std::string& piece) {
    if (piece.empty()) return;
    text_ += piece;
    if (on_text_) on_text_(piece);
  }

  std::unique_ptr<text::StreamDecoder> decoder_;
  StopStrings stops_;
  const TextCallback& on_text_;
  std::string text_;
};

}  // namespace

double GenerateTiming::decode_tokens_per_second() const {
  return new_tokens > 1 && decode_seconds > 0 ? static_cast<double>(new_tokens - 1) / decode_seconds
                                              : 0.0;
}

GenerateResult Generator::run(const std::vector<int64_t>& prompt, const GenerateOptions& options,
                              const TextCallback& on_text, Conversation* conversation) const {
  check_request(prompt, options, model_->spec().embedding.vocab_size, tokenizer_ != nullptr);
  at::NoGradGuard no_grad;
  GenerateResult result;
  result.token_ids = prompt;
  result.timing.prompt_tokens = static_cast<int64_t>(prompt.size());
  TextSink sink(tokenizer_.get(), options, on_text);
  Conversation own(model_->spec());
  Conversation& read = conversation != nullptr ? *conversation : own;

  Clock::time_point start = Clock::now();
  std::vector<int64_t> pending(prompt.begin() + read.resume(prompt), prompt.end());
  for (int64_t n = 0; n < options.max_new_tokens; ++n) {
    if (n > 0 && read.interrupted && read.interrupted()) break;
    const at::Tensor logits = next_logits(*model_, pending, read.state());
    read.append(pending);
    if (n == 0 && conversation != nullptr) read.mark();
    const auto position = static_cast<uint64_t>(result.token_ids.size());
    const int64_t id = sample_token(logits, result.token_ids, options.sampler,
                                    {options.seed, options.request, position});
    result.token_ids.push_back(id);
    pending = {id};
    result.timing.new_tokens = n + 1;
    if (n == 0) {
      result.timing.prefill_seconds = seconds_since(start);
      start = Clock::now();
    }
    if (std::find(options.stop_ids.begin(), options.stop_ids.end(), id) != options.stop_ids.end()) {
      result.finish = FinishReason::kStopId;
      break;
    }
    sink.push(id);
    if (sink.stopped()) {
      result.finish = FinishReason::kStopString;
      break;
    }
  }
  result.timing.decode_seconds = result.timing.new_tokens > 0 ? seconds_since(start) : 0.0;
  sink.finish();
  result.text = sink.text();
  result.state_bytes = read.state().bytes();
  return result;
}

}  // namespace headway::engine
