// See speculation.h. Not for: choosing a token (sampler.h).
#include "headway/engine/speculation.h"

#include <algorithm>
#include <string>

#include <ATen/Functions.h>

#include "headway/base/error.h"
#include "headway/engine/drafter.h"

namespace headway::engine {
namespace {

nn::ModelState droppable_state(const spec::ModelSpec& spec, int64_t drafts) {
  nn::ModelState state = nn::make_state(spec);
  for (size_t i = 0; i < state.layers.size(); ++i) {
    if (nn::can_drop(state.layers[i])) continue;
    throw UnsupportedError("[generate] --draft-tokens = " + std::to_string(drafts) + ": layer " +
                           std::to_string(i) + " (block " + spec.layers[i].block +
                           ") keeps a state that cannot forget tokens; allowed 0");
  }
  return state;
}

/// A pass of the stack over tokens that it has not read.
struct Pass {
  at::Tensor normed_TD;
  at::Tensor mtp_hidden_TD;
};

Pass read(nn::Transformer& model, const std::vector<int64_t>& tokens, nn::ModelState& state) {
  const at::Tensor ids = at::tensor(tokens, at::kLong).to(model.parameters().device());
  Pass pass;
  nn::ForwardOptions options;
  options.state = &state;
  options.mtp_hidden = &pass.mtp_hidden_TD;
  pass.normed_TD = model.forward(ids, nn::next_tokens(state.num_tokens, ids.numel()), options);
  return pass;
}

/// Draws a token behind every row of `logits` until one differs from its guess or ends the request;
/// returns how many guesses were right.
int64_t verify(const at::Tensor& logits_TV, const std::vector<int64_t>& guesses,
               Generation& generation) {
  size_t right = 0;
  for (;; ++right) {
    const int64_t drawn = generation.advance(logits_TV.select(0, static_cast<int64_t>(right)));
    if (right == guesses.size() || drawn != guesses[right]) break;
    if (generation.finished()) return static_cast<int64_t>(right) + 1;
  }
  return static_cast<int64_t>(right);
}

}  // namespace

GenerateResult speculate(nn::Transformer& model, const std::vector<int64_t>& prompt,
                         const GenerateOptions& options, const TextTarget& target) {
  Generation generation(prompt, options, target.tokenizer, target.on_text);
  Drafter drafter(model, options.draft_tokens);
  nn::ModelState state = droppable_state(model.spec(), options.draft_tokens);
  const Drafter::Pick pick = [&](const at::Tensor& logits_V, const std::vector<int64_t>& tokens) {
    return sample_token(logits_V, tokens, options.sampler,
                        {options.seed, options.request, tokens.size()});
  };
  DraftCounts counts;
  std::vector<int64_t> unread = prompt, guesses;
  while (!generation.finished()) {
    std::vector<int64_t> tokens = unread;
    tokens.insert(tokens.end(), guesses.begin(), guesses.end());
    const Pass pass = read(model, tokens, state);
    const auto sure = static_cast<int64_t>(unread.size());
    const auto guessed = static_cast<int64_t>(guesses.size());
    const at::Tensor logits = model.logits(pass.normed_TD.narrow(0, sure - 1, guessed + 1));
    const int64_t accepted = verify(logits, guesses, generation);
    counts.passes += 1;
    counts.drafted += guessed;
    counts.accepted += accepted;
    if (generation.finished()) break;
    state.drop_last(guessed - accepted);
    drafter.extend(pass.mtp_hidden_TD.narrow(0, 0, sure + accepted));
    unread = {generation.token_ids().back()};
    // The last token needs no guess: nothing is drawn behind it.
    const int64_t wanted = std::min(options.draft_tokens, generation.remaining() - 1);
    guesses = drafter.draft(generation.token_ids(), wanted, pick);
  }
  GenerateResult result = generation.take(state.bytes() + drafter.bytes());
  result.drafts = counts;
  return result;
}

}  // namespace headway::engine
