// Bookkeeping of the states of a conversation. Not for: running the model (generator.h).
#include "headway/engine/conversation.h"

#include <algorithm>

namespace headway::engine {

std::int64_t Conversation::resume(const std::vector<std::int64_t>& prompt) {
  const auto [known, ignored] = std::ranges::mismatch(tokens_, prompt);
  const auto common = static_cast<std::size_t>(known - tokens_.begin());
  const bool extends = common == tokens_.size() && prompt.size() > common;
  if (!extends) {
    while (!marks_.empty() &&
           (marks_.back().length > common || marks_.back().length >= prompt.size())) {
      marks_.pop_back();
    }
    if (marks_.empty()) {
      clear();
    } else {
      state_ = marks_.back().state.snapshot();
      tokens_.resize(marks_.back().length);
    }
  }
  reused_ = static_cast<std::int64_t>(tokens_.size());
  return reused_;
}

void Conversation::append(const std::vector<std::int64_t>& tokens) {
  tokens_.insert(tokens_.end(), tokens.begin(), tokens.end());
}

void Conversation::mark() {
  if (marks_.size() == kMarks) marks_.pop_front();
  marks_.push_back({tokens_.size(), state_.snapshot()});
}

void Conversation::clear() {
  state_ = nn::make_state(*spec_);
  tokens_.clear();
  marks_.clear();
  reused_ = 0;
}

}  // namespace headway::engine
