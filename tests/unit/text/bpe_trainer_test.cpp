// Learned vocabularies: known merges, determinism, round trips, limits.
// Not for: equality with another trainer.
#include "headway/text/bpe_trainer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "headway/base/error.h"
#include "headway/base/json.h"
#include "headway/text/json_tokenizer.h"

namespace headway::text {
namespace {

std::string sample() {
  std::string text;
  for (int i = 0; i < 200; ++i) {
    text += "the cat sat on the mat " + std::to_string(i * 37) + " caf\xC3\xA9;\n";
  }
  return text;
}

TEST(BpeTrainer, MergesTheMostFrequentPairFirst) {
  BpeTrainer trainer({258, {}});
  trainer.feed("ababab ab cc");
  trainer.end_document();
  const Json json = Json::parse(trainer.train());
  EXPECT_EQ(json["model"]["merges"][0], Json::array({"a", "b"}));
  EXPECT_EQ(json["model"]["merges"][1], Json::array({"ab", "ab"}));
  EXPECT_EQ(json["model"]["vocab"].size(), 258u);
  EXPECT_EQ(json["model"]["vocab"]["!"], 0);
}

TEST(BpeTrainer, DoesNotDependOnHowTextArrives) {
  const std::string text = sample();
  BpeTrainer whole({400});
  whole.feed(text);
  whole.end_document();
  BpeTrainer parts({400});
  for (std::size_t at = 0; at < text.size(); at += 7) parts.feed(text.substr(at, 7));
  parts.end_document();
  EXPECT_EQ(whole.train(), parts.train());
}

TEST(BpeTrainer, ResultLoadsAndRoundTrips) {
  BpeTrainer trainer({400, {"<|endoftext|>", "<|pad|>"}});
  trainer.feed(sample());
  trainer.end_document();
  const JsonTokenizer tokenizer(trainer.train(), "t.json");
  EXPECT_EQ(tokenizer.vocab_size(), trainer.learned());
  EXPECT_EQ(tokenizer.token_to_id("<|endoftext|>"), trainer.learned() - 2);
  const std::string text = "the mat\n\n 12345 \xF0\x9F\x98\x80<|pad|>";
  const auto ids = tokenizer.encode(text, false);
  EXPECT_EQ(ids.back(), trainer.learned() - 1);
  EXPECT_EQ(tokenizer.decode(ids, false), text);
  EXPECT_EQ(tokenizer.encode(" the", false).size(), 1u);
  EXPECT_EQ(Json::parse(trainer.config())["eos_token"], "<|endoftext|>");
}

TEST(BpeTrainer, RefusesImpossibleSizesAndTokens) {
  EXPECT_THROW(BpeTrainer({256}), ConfigError);
  EXPECT_THROW(BpeTrainer({1 << 30}), ConfigError);
  EXPECT_THROW(BpeTrainer({300, {"a", "a"}}), ConfigError);
  EXPECT_THROW(BpeTrainer({300, {""}}), ConfigError);
}

TEST(BpeTrainer, StopsWhenNoPairIsLeft) {
  BpeTrainer trainer({1000});
  trainer.feed("ab");
  trainer.end_document();
  trainer.train();
  EXPECT_EQ(trainer.learned(), 258);
}

}  // namespace
}  // namespace headway::text
