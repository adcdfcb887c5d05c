// What a model has read of one conversation, so that the next turn need not read it again.
// Not for: conversations of many users at once; the server's prefix cache is for those.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <vector>

#include "headway/nn/layer_state.h"
#include "headway/spec/model_spec.h"

namespace headway::engine {

/// The state after the tokens read so far, and after earlier prompts: a template may render an
/// answer differently once it lies in the past (without its reasoning), and then the state goes
/// back to the end of the last prompt that is still a beginning of the new one. The spec outlives
/// the object. Test: tests/unit/engine/conversation_test.cpp
class Conversation {
 public:
  explicit Conversation(const spec::ModelSpec& spec) : spec_(&spec), state_(nn::make_state(spec)) {}

  /// Makes the state that of the longest known beginning of `prompt` that leaves at least its last
  /// token to be read. Returns the number of tokens known.
  std::int64_t resume(const std::vector<std::int64_t>& prompt);

  nn::ModelState& state() { return state_; }
  /// The state has read these tokens after those before.
  void append(const std::vector<std::int64_t>& tokens);
  /// The state stands at the end of a prompt, to which resume() may return.
  void mark();
  void clear();

  const std::vector<std::int64_t>& tokens() const { return tokens_; }
  /// What the last resume() returned.
  std::int64_t reused_tokens() const { return reused_; }

  /// Asked before every token but the first; true ends the answer there.
  std::function<bool()> interrupted;

 private:
  struct Mark {
    std::size_t length;  // tokens of tokens_ that its state has read
    nn::ModelState state;
  };
  static constexpr std::size_t kMarks = 4;

  const spec::ModelSpec* spec_;
  nn::ModelState state_;
  std::vector<std::int64_t> tokens_;
  std::deque<Mark> marks_;
  std::int64_t reused_ = 0;
};

}  // namespace headway::engine
