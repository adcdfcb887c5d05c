// Packing by example: boundaries, shifted labels, the last sample, and the validation split.
// Not for: the general laws (tests/property/data).
#include "headway/data/packing.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "headway/base/error.h"

#include "tests/support/temp_folder.h"

namespace headway::data {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing_support::message_of;

// Tokens 10, 11, 12, … in documents of the given lengths.
std::shared_ptr<const TokenStore> counting_store(const std::vector<std::int64_t>& lengths) {
  TokenStore::Content content;
  content.vocab_size = 1000;
  for (const std::int64_t length : lengths) {
    for (std::int64_t i = 0; i < length; ++i) {
      content.tokens.push_back(static_cast<std::uint32_t>(10 + content.tokens.size()));
    }
    content.document_ends.push_back(content.tokens.size());
  }
  return TokenStore::in_memory(std::move(content));
}

struct Sample {
  std::vector<std::int64_t> input_ids, labels, lengths;
  std::int64_t label_count = 0;
};

Sample read(const PackedSamples& samples, std::int64_t index) {
  Sample sample;
  sample.input_ids.resize(static_cast<std::size_t>(samples.length(index)));
  sample.labels.resize(sample.input_ids.size());
  sample.label_count = samples.read(index, sample.input_ids, sample.labels, sample.lengths);
  return sample;
}

TEST(PackedSamples, DocumentsShareSamplesAndGoOnInTheNext) {
  const auto store = counting_store({3, 2, 5});
  const PackedSamples samples(store, {0, 10}, {4, false}, LastSample::kShort);
  ASSERT_EQ(samples.size(), 3);
  const Sample first = read(samples, 0);
  EXPECT_THAT(first.input_ids, ElementsAre(10, 11, 12, 13));
  EXPECT_THAT(first.labels, ElementsAre(11, 12, -100, 14)) << "14 stands in the next sample";
  EXPECT_THAT(first.lengths, ElementsAre(3, 1));
  EXPECT_EQ(first.label_count, 3);
  const Sample second = read(samples, 1);
  EXPECT_THAT(second.input_ids, ElementsAre(14, 15, 16, 17));
  EXPECT_THAT(second.labels, ElementsAre(-100, 16, 17, 18));
  EXPECT_THAT(second.lengths, ElementsAre(1, 3));
  const Sample third = read(samples, 2);
  EXPECT_THAT(third.input_ids, ElementsAre(18, 19));
  EXPECT_THAT(third.labels, ElementsAre(19, -100));
  EXPECT_THAT(third.lengths, ElementsAre(2));
}

TEST(PackedSamples, DocumentEndAtSampleEnd) {
  const auto store = counting_store({4, 4});
  const PackedSamples samples(store, {0, 8}, {4, false}, LastSample::kOverlap);
  ASSERT_EQ(samples.size(), 2);
  EXPECT_THAT(read(samples, 0).labels, ElementsAre(11, 12, 13, -100));
  EXPECT_THAT(read(samples, 0).lengths, ElementsAre(4));
  EXPECT_THAT(read(samples, 1).lengths, ElementsAre(4));
}

TEST(PackedSamples, CrossingDocumentsIgnoresBoundaries) {
  const auto store = counting_store({3, 2, 5});
  const PackedSamples samples(store, {0, 10}, {4, true}, LastSample::kShort);
  const Sample first = read(samples, 0);
  EXPECT_THAT(first.labels, ElementsAre(11, 12, 13, 14));
  EXPECT_THAT(first.lengths, ElementsAre(4));
  EXPECT_THAT(read(samples, 2).labels, ElementsAre(19, -100));
}

TEST(PackedSamples, OverlappingLastSampleIsFullAndRepeatsNoLabel) {
  const auto store = counting_store({3, 2, 5});
  const PackedSamples samples(store, {0, 10}, {4, false}, LastSample::kOverlap);
  ASSERT_EQ(samples.size(), 3);
  const Sample last = read(samples, 2);
  EXPECT_THAT(last.input_ids, ElementsAre(16, 17, 18, 19));
  EXPECT_THAT(last.labels, ElementsAre(-100, -100, 19, -100));
  EXPECT_THAT(last.lengths, ElementsAre(4));
  EXPECT_EQ(last.label_count, 1);
}

TEST(PackedSamples, LastTokenAloneIsNoSample) {
  const auto store = counting_store({9});
  for (const LastSample rule : {LastSample::kOverlap, LastSample::kShort}) {
    const PackedSamples samples(store, {0, 9}, {4, false}, rule);
    ASSERT_EQ(samples.size(), 2);
    EXPECT_THAT(read(samples, 1).input_ids, ElementsAre(14, 15, 16, 17));
    EXPECT_THAT(read(samples, 1).labels, ElementsAre(15, 16, 17, 18));
  }
}

TEST(PackedSamples, RangeIsNotLeft) {
  const auto store = counting_store({3, 9});
  const PackedSamples samples(store, {2, 10}, {4, false}, LastSample::kOverlap);
  ASSERT_EQ(samples.size(), 2);
  EXPECT_THAT(read(samples, 0).input_ids, ElementsAre(12, 13, 14, 15));
  EXPECT_THAT(read(samples, 0).lengths, ElementsAre(1, 3));
  EXPECT_THAT(read(samples, 1).labels, ElementsAre(17, 18, 19, -100)) << "20 is outside";
}

TEST(PackedSamples, Errors) {
  const auto store = counting_store({3, 2, 5});
  const auto message = [&](TokenRange range, PackingRule rule, LastSample last) {
    return message_of<ConfigError>([&] { PackedSamples(store, range, rule, last); });
  };
  EXPECT_THAT(message({0, 10}, {11, false}, LastSample::kOverlap),
              HasSubstr("sequence_length = 11, allowed at most the number of tokens (= 10)"));
  EXPECT_THAT(message({0, 1}, {1, false}, LastSample::kShort), HasSubstr("(= 1)"));
  EXPECT_THAT(message({0, 10}, {0, false}, LastSample::kShort), HasSubstr("sequence_length = 0"));
  EXPECT_EQ(PackedSamples(store, {0, 10}, {11, false}, LastSample::kShort).size(), 1);
  EXPECT_THROW(PackedSamples(store, {0, 11}, {4, false}, LastSample::kShort), InternalError);

  const auto single = counting_store({1, 1, 1});
  EXPECT_THAT(message_of<ConfigError>([&] {
                PackedSamples(single, {0, 3}, {2, false}, LastSample::kShort);
              }),
              HasSubstr("documents = 3 of one token each"));
  EXPECT_NO_THROW(PackedSamples(single, {0, 3}, {2, true}, LastSample::kShort));

  const PackedSamples samples(store, {0, 10}, {4, false}, LastSample::kShort);
  EXPECT_THROW(samples.length(3), InternalError);
  EXPECT_THROW(samples.length(-1), InternalError);
  std::vector<std::int64_t> three(3), four(4), lengths;
  EXPECT_THROW(samples.read(0, three, four, lengths), InternalError);
}

TEST(SplitTokens, LastFractionButAtLeastOneSequence) {
  EXPECT_EQ(split_tokens(1000, 0.1, 16).validation, (TokenRange{900, 1000}));
  EXPECT_EQ(split_tokens(1000, 0.1, 16).train, (TokenRange{0, 900}));
  EXPECT_EQ(split_tokens(1000, 0.001, 16).validation, (TokenRange{984, 1000}));
  EXPECT_EQ(split_tokens(1000, 0.0, 16).validation.size(), 0);
  EXPECT_EQ(split_tokens(1000, 0.0, 16).train, (TokenRange{0, 1000}));
  EXPECT_EQ(split_tokens(32, 0.02, 16).train.size(), 16);
  EXPECT_EQ(split_tokens(10, 0.02, 1).validation.size(), 2) << "one token predicts nothing";
}

TEST(SplitTokens, Errors) {
  const auto message = [](std::int64_t tokens, double fraction, std::int64_t length) {
    return message_of<ConfigError>([&] { split_tokens(tokens, fraction, length); });
  };
  EXPECT_THAT(
      message(31, 0.02, 16),
      HasSubstr("sequence_length = 16, allowed at most the tokens left for training (= 15 of "
                "31, after validation_fraction = 0.02)"));
  EXPECT_THAT(message(5, 0.02, 16), HasSubstr("(= 0 of 5"));
  EXPECT_THAT(message(15, 0.0, 16), HasSubstr("(= 15 of 15"));
  EXPECT_THAT(message(100, 1.0, 16), HasSubstr("validation_fraction = 1"));
  EXPECT_THAT(message(100, -0.1, 16), HasSubstr("validation_fraction = -0.1"));
}

}  // namespace
}  // namespace headway::data
