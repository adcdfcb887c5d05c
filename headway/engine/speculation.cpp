// See speculation.h. Not for: choosing a token (sampler.h).
#include "headway/engine/speculation.h"

#include <algorithm>
#include <string>

#include <ATen/Functions.h>

#include "headway/base/error.h"
#include "headway/engine/drafter.h"

namespace headway::engine {
namespace {

/// A pass of the stack over tokens that it has not read.
struct Pass {
  at::Tensor normed_TD;
  at::Tensor mtp_hidden_TD;
};

/// The stack, the tokens that its state has not read, and how guesses among them are taken back.
class Reader {
 public:
  Reader(nn::Transformer& model, const std::vector<int64_t>& prompt)
      : model_(model), state_(nn::make_state(model.spec())), unread_(prompt) {
    forgets_ = std::ranges::all_of(state_.layers, nn::can_drop);
  }

  /// Reads what is unread, and the guesses behind it.
  Pass read(const std::vector<int64_t>& guesses) {
    if (!forgets_ && !guesses.empty()) before_ = state_.snapshot();
    std::vector<int64_t> tokens = unread_;
    tokens.insert(tokens.end(), guesses.begin(), guesses.end());
    const at::Tensor ids = at::tensor(tokens, at::kLong).to(model_.parameters().device());
    Pass pass;
    nn::ForwardOptions options;
    options.state = &state_;
    options.mtp_hidden = &pass.mtp_hidden_TD;
    pass.normed_TD = model_.forward(ids, nn::next_tokens(state_.num_tokens, ids.numel()), options);
    return pass;
  }

  /// Keeps `accepted` of the guesses; `next` follows them and is unread. Keys and values forget the
  /// rows of the others. A state that every token changes goes back to what it was before the pass,
  /// and reads what stays once more with the next one.
  void settle(const std::vector<int64_t>& guesses, int64_t accepted, int64_t next) {
    const auto wrong = static_cast<int64_t>(guesses.size()) - accepted;
    known_ = 0;
    if (wrong > 0 && !forgets_) {
      state_ = std::move(before_);
      unread_.insert(unread_.end(), guesses.begin(), guesses.begin() + accepted);
      known_ = static_cast<int64_t>(unread_.size());
    } else {
      if (wrong > 0) state_.drop_last(wrong);
      unread_.clear();
    }
    unread_.push_back(next);
  }

  int64_t unread() const { return static_cast<int64_t>(unread_.size()); }
  /// How many of the unread tokens were read once already.
  int64_t known() const { return known_; }
  int64_t bytes() const { return state_.bytes(); }

 private:
  nn::Transformer& model_;
  nn::ModelState state_;
  nn::ModelState before_;
  std::vector<int64_t> unread_;
  int64_t known_ = 0;
  bool forgets_;
};

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
  Reader reader(model, prompt);
  const Drafter::Pick pick = [&](const at::Tensor& logits_V, const std::vector<int64_t>& tokens) {
    return sample_token(logits_V, tokens, options.sampler,
                        {options.seed, options.request, tokens.size()});
  };
  DraftCounts counts;
  std::vector<int64_t> guesses;
  while (!generation.finished()) {
    const Pass pass = reader.read(guesses);
    const int64_t sure = reader.unread();
    const auto guessed = static_cast<int64_t>(guesses.size());
    const at::Tensor logits = model.logits(pass.normed_TD.narrow(0, sure - 1, guessed + 1));
    const int64_t accepted = verify(logits, guesses, generation);
    counts.passes += 1;
    counts.drafted += guessed;
    counts.accepted += accepted;
    if (generation.finished()) break;
    const int64_t known = reader.known();
    drafter.extend(pass.mtp_hidden_TD.narrow(0, known, sure + accepted - known));
    reader.settle(guesses, accepted, generation.token_ids().back());
    // The last token needs no guess: nothing is drawn behind it.
    const int64_t wanted = std::min(options.draft_tokens, generation.remaining() - 1);
    guesses = drafter.draft(generation.token_ids(), wanted, pick);
  }
  GenerateResult result = generation.take(reader.bytes() + drafter.bytes());
  result.drafts = counts;
  return result;
}

}  // namespace headway::engine
