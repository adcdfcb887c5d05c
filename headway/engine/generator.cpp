// The loop that produces tokens of one prompt with cached state. Not for: choosing a token
// (sampler).
#include "headway/engine/generator.h"

#include <ATen/Functions.h>
#include <ATen/core/grad_mode.h>

#include "headway/base/error.h"
#include "headway/engine/speculation.h"

namespace headway::engine {
namespace {

/// Runs the new tokens of one sequence through the model; returns the logits of the last one.
at::Tensor next_logits(nn::Transformer& model, const std::vector<int64_t>& ids,
                       nn::ModelState& state) {
  const auto count = static_cast<int64_t>(ids.size());
  const at::Tensor input = at::tensor(ids, at::kLong).to(model.parameters().device());
  const at::Tensor h =
      model.forward(input, nn::next_tokens(state.num_tokens, count), {&state, nullptr});
  return model.logits(h.narrow(0, count - 1, 1)).select(0, 0);
}

}  // namespace

GenerateResult Generator::run(const std::vector<int64_t>& prompt, const GenerateOptions& options,
                              const TextCallback& on_text, Conversation* conversation) const {
  check_generation(prompt, options, model_->spec().embedding.vocab_size, tokenizer_ != nullptr);
  at::NoGradGuard no_grad;
  if (options.draft_tokens > 0) {
    if (conversation != nullptr) {
      throw UnsupportedError("[generate] draft tokens: allowed outside of conversations");
    }
    return speculate(*model_, prompt, options, {tokenizer_.get(), on_text});
  }
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
