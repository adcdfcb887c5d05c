// Training order: epochs, the saved state, and states that do not fit.
// Not for: the quality of the shuffle (tests/property/data).
#include "headway/data/train_loader.h"

#include <set>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "headway/base/error.h"

#include "tests/support/temp_folder.h"

namespace headway::data {
namespace {

using testing::HasSubstr;
using testing_support::message_of;

PackedSamples samples_of(std::size_t tokens, std::int64_t length, bool cross = false) {
  TokenStore::Content content;
  content.vocab_size = 1000;
  for (std::size_t i = 0; i < tokens; ++i) content.tokens.push_back(static_cast<std::uint32_t>(i));
  content.document_ends = {tokens};
  return PackedSamples(TokenStore::in_memory(std::move(content)),
                       {0, static_cast<std::int64_t>(tokens)}, {length, cross},
                       LastSample::kOverlap);
}

std::vector<std::int64_t> ids(const Batch& batch) {
  const auto* first = batch.input_ids.data_ptr<std::int64_t>();
  return {first, first + batch.input_ids.numel()};
}

TEST(TrainLoader, EpochVisitsEverySampleOnceAndOrdersDiffer) {
  TrainLoader loader(samples_of(200, 2), 7);
  const auto first = ids(loader.next(100));
  EXPECT_EQ(std::set(first.begin(), first.end()).size(), 200u);
  EXPECT_EQ(loader.position(), (DataPosition{1, 0}));
  const auto second = ids(loader.next(100));
  EXPECT_NE(first, second);
  EXPECT_FALSE(std::ranges::is_sorted(first));
  TrainLoader same(samples_of(200, 2), 7), other(samples_of(200, 2), 8);
  EXPECT_EQ(ids(same.next(100)), first);
  EXPECT_NE(ids(other.next(100)), first);
}

TEST(TrainLoader, BatchesCrossEpochs) {
  TrainLoader loader(samples_of(6, 2), 1);
  EXPECT_EQ(loader.next(8).num_tokens(), 16);
  EXPECT_EQ(loader.position(), (DataPosition{2, 2}));
}

TEST(TrainLoader, StateRestoresThePosition) {
  TrainLoader loader(samples_of(100, 2), 1);
  loader.next(60);
  const Json state = Json::parse(loader.state().dump());
  TrainLoader resumed(samples_of(100, 2), 1);
  resumed.restore(state);
  EXPECT_EQ(resumed.position(), (DataPosition{1, 10}));
  EXPECT_EQ(ids(resumed.next(45)), ids(loader.next(45)));
  TrainLoader skipped(samples_of(100, 2), 1);
  skipped.skip(60);
  EXPECT_EQ(skipped.state(), state);
}

TEST(TrainLoader, StateOfOtherDataIsRefused) {
  const Json state = TrainLoader(samples_of(100, 2), 1).state();
  const std::vector<TrainLoader> others{
      TrainLoader(samples_of(101, 2), 1), TrainLoader(samples_of(100, 4), 1),
      TrainLoader(samples_of(100, 2, true), 1), TrainLoader(samples_of(100, 2), 2)};
  for (TrainLoader other : others) {
    EXPECT_THAT(message_of<CheckpointError>([&] { other.restore(state); }),
                HasSubstr("[data state] data = "));
  }
}

TEST(TrainLoader, MalformedStateIsRefused) {
  TrainLoader loader(samples_of(100, 2), 1);
  const auto refuse = [&](auto change) {
    Json state = loader.state();
    change(state);
    return message_of<CheckpointError>([&] { loader.restore(state); });
  };
  EXPECT_THAT(refuse([](Json& s) { s = Json::array({1}); }), HasSubstr("allowed a mapping"));
  EXPECT_THAT(refuse([](Json& s) { s.erase("data"); }), HasSubstr("data = absent"));
  EXPECT_THAT(refuse([](Json& s) { s.erase("epoch"); }), HasSubstr("epoch = absent"));
  EXPECT_THAT(refuse([](Json& s) { s["epoch"] = -1; }), HasSubstr("epoch = -1"));
  EXPECT_THAT(refuse([](Json& s) { s["epoch"] = 1.5; }), HasSubstr("epoch = 1.5"));
  EXPECT_THAT(refuse([](Json& s) { s["sample"] = 50; }), HasSubstr("sample = 50, allowed a whole"));
  EXPECT_THAT(refuse([](Json& s) { s["sample"] = "1"; }), HasSubstr("sample = \"1\""));
  EXPECT_THAT(refuse([](Json& s) { s["sample"] = ~0ull; }),
              HasSubstr("sample = 18446744073709551615"));
  EXPECT_EQ(loader.position(), DataPosition{}) << "a refused state changed the position";
}

}  // namespace
}  // namespace headway::data
