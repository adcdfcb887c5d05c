// The loop that produces tokens of one prompt with cached state. Not for: choosing a token
// (sampler).
#include "headway/engine/generator.h"

#include <ATen/Functions.h>
#include <ATen/core/grad_mode.h>

namespace headway::engine {
namespace {

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

}  // namespace

GenerateResult Generator::run(const std::vector<int64_t>& prompt, const GenerateOptions& options,
                              const TextCallback& on_text, Conversation* conversation) const {
  check_generation(prompt, options, model_->spec().embedding.vocab_size, tokenizer_ != nullptr);
  at::NoGradGuard no_grad;
  Generation generation(prompt, options, tokenizer_.get(), on_text);
  Conversation own(model_->spec());
  Conversation& read = conversation != nullptr ? *conversation : own;
  std::vector<int64_t> pending(prompt.begin() + read.resume(prompt), prompt.end());
  for (bool first = true; !generation.finished(); first = false) {
    if (!first && read.interrupted && read.interrupted()) break;
    const at::Tensor logits = next_logits(*model_, pending, read.state());
    read.append(pending);
    if (first && conversation != nullptr) read.mark();
    pending = {generation.advance(logits)};
  }
  return generation.take(read.state().bytes());
}

}  // namespace headway::engine
