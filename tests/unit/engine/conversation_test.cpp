// A conversation's state: reused when the prompt goes on, taken back to a prompt's end when the
// past is told differently, and never with other tokens than a fresh start gives.
#include "headway/engine/conversation.h"

#include <gtest/gtest.h>

#include "headway/engine/generator.h"

#include "tests/support/tiny_specs.h"

namespace headway::engine {
namespace {

using Ids = std::vector<int64_t>;

nn::Transformer make(const spec::ModelSpec& spec) {
  nn::Transformer model(spec, at::kDouble);
  model.parameters().initialise(4);
  return model;
}

GenerateOptions greedy(int64_t count) {
  GenerateOptions options;
  options.max_new_tokens = count;
  options.sampler.temperature = 0.0;
  return options;
}

Ids joined(const Ids& a, const Ids& b) {
  Ids all = a;
  all.insert(all.end(), b.begin(), b.end());
  return all;
}

TEST(Conversation, ALaterTurnReadsOnlyWhatIsNew) {
  for (const auto& [name, spec] : test::tiny_specs()) {
    SCOPED_TRACE(name);
    nn::Transformer model = make(spec);
    const Generator generator(model, nullptr);
    Conversation conversation(model.spec());
    const Ids first = generator.run({3, 1, 4, 1, 5}, greedy(6), nullptr, &conversation).token_ids;
    EXPECT_EQ(conversation.reused_tokens(), 0);
    // The last new token was chosen but not read.
    EXPECT_EQ(std::ssize(conversation.tokens()), std::ssize(first) - 1);
    const Ids prompt = joined(first, {7, 8, 9});
    const Ids second = generator.run(prompt, greedy(9), nullptr, &conversation).token_ids;
    EXPECT_EQ(conversation.reused_tokens(), std::ssize(first) - 1);
    EXPECT_EQ(second, generator.run(prompt, greedy(9)).token_ids);
  }
}

TEST(Conversation, ARetoldPastGoesBackToTheLastCommonPrompt) {
  for (const auto& [name, spec] : test::tiny_specs()) {
    SCOPED_TRACE(name);
    nn::Transformer model = make(spec);
    const Generator generator(model, nullptr);
    Conversation conversation(model.spec());
    const Ids start{2, 7, 1, 8, 2, 8};
    const Ids answer = generator.run(start, greedy(40), nullptr, &conversation).token_ids;
    Ids other = start;
    other.push_back(answer[start.size()] == 5 ? 6 : 5);
    other.insert(other.end(), {1, 2, 3});
    const Ids second = generator.run(other, greedy(40), nullptr, &conversation).token_ids;
    EXPECT_EQ(conversation.reused_tokens(), std::ssize(start));
    EXPECT_EQ(second, generator.run(other, greedy(40)).token_ids);
    // And once more: the mark is still good after the state it shares rows with has moved on.
    const Ids third = joined(start, {0, 0, 0, 0});
    EXPECT_EQ(generator.run(third, greedy(40), nullptr, &conversation).token_ids,
              generator.run(third, greedy(40)).token_ids);
  }
}

TEST(Conversation, TheSamePromptOrAnotherOneStartsAnew) {
  nn::Transformer model = make(test::tiny_step());
  const Generator generator(model, nullptr);
  Conversation conversation(model.spec());
  const Ids prompt{5, 4, 3, 2};
  const Ids first = generator.run(prompt, greedy(5), nullptr, &conversation).token_ids;
  EXPECT_EQ(generator.run(prompt, greedy(5), nullptr, &conversation).token_ids, first);
  EXPECT_EQ(conversation.reused_tokens(), 0);
  const Ids different{9, 9};
  EXPECT_EQ(generator.run(different, greedy(5), nullptr, &conversation).token_ids,
            generator.run(different, greedy(5)).token_ids);
  EXPECT_EQ(conversation.reused_tokens(), 0);
  conversation.clear();
  EXPECT_TRUE(conversation.tokens().empty());
  EXPECT_EQ(conversation.state().num_tokens, 0);
}

TEST(Conversation, InterruptedAnswersKeepWhatWasSaid) {
  nn::Transformer model = make(test::tiny_step());
  const Generator generator(model, nullptr);
  Conversation conversation(model.spec());
  int asked = 0;
  conversation.interrupted = [&asked] { return ++asked == 3; };
  const GenerateResult result = generator.run({1, 2, 3}, greedy(50), nullptr, &conversation);
  EXPECT_EQ(result.timing.new_tokens, 3);
  conversation.interrupted = nullptr;
  const Ids prompt = joined(result.token_ids, {4, 5});
  EXPECT_EQ(generator.run(prompt, greedy(5), nullptr, &conversation).token_ids,
            generator.run(prompt, greedy(5)).token_ids);
}

}  // namespace
}  // namespace headway::engine
