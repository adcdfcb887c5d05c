// The bookkeeping of the dynamic context: numbers of the specification, refusals, growth, windows.
// Not for: prefix caching (prefix_cache_test.cpp) or real models (paged_runner_test.cpp).
#include "headway/engine/dynamic_context.h"

#include <algorithm>
#include <numeric>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/tiny_specs.h"

namespace headway::engine {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

ContextOptions limits(int64_t num_blocks, int64_t max_requests = 8, int64_t max_tokens = 1000) {
  ContextOptions options;
  options.num_blocks = num_blocks;
  options.max_requests = max_requests;
  options.max_tokens = max_tokens;
  options.max_sequence_length = 1000;
  return options;
}

DynamicContext context(int64_t block, const ContextOptions& options) {
  return DynamicContext(plan_pages(test::tiny_llama(2), block), options);
}

NewRequest request(int64_t id, int64_t prompt, int64_t output = 50) {
  NewRequest request{.id = id, .output_length = output, .arrival = static_cast<uint64_t>(id)};
  request.prompt.resize(static_cast<size_t>(prompt));
  std::iota(request.prompt.begin(), request.prompt.end(), 100 * id);
  return request;
}

/// One new token 7 for each row that samples.
UpdateResult step(DynamicContext& c) {
  std::vector<StepOutcome> outcomes;
  for (const bool samples : c.begin_step().samples) {
    outcomes.push_back(samples ? StepOutcome{.next_tokens = {7}} : StepOutcome{});
  }
  return c.update(outcomes);
}

template <class Body>
ContextOverflow overflow_of(Body body) {
  try {
    body();
  } catch (const ContextOverflow& error) {
    return error;
  }
  return {Refusal::kTokens, "no error"};
}

std::vector<int64_t> ids_of(const std::vector<ContextRequest>& requests) {
  std::vector<int64_t> ids;
  for (const ContextRequest& request : requests) ids.push_back(request.given.id);
  return ids;
}

TEST(DynamicContext, PromptOf144TokensInBlocksOf128) {
  DynamicContext c = context(128, limits(10));
  EXPECT_EQ(c.total_blocks(), 9);
  c.add_request(request(0, 144));
  const ContextRequest& r = c.active().front();
  ASSERT_EQ(r.blocks[0].size(), 2u);
  EXPECT_EQ((r.end() - 1) % 128, 15) << "offset of the last token in its block";
  EXPECT_EQ(c.pool().available(), 7);
  const ContextStep s = c.begin_step();
  EXPECT_THAT(s.query_lengths, ElementsAre(144));
  EXPECT_THAT(s.kv_lengths, ElementsAre(144));
  EXPECT_FALSE(s.decode_only);
  for (int64_t t = 0; t < 144; ++t) {
    EXPECT_EQ(s.positions[t], t);
    EXPECT_EQ(s.token_rows[t], 0);
    EXPECT_EQ(s.groups[0].token_blocks[t], r.blocks[0][t / 128]);
    EXPECT_EQ(s.groups[0].slots[t], r.blocks[0][t / 128] * 128 + t % 128);
  }
  const std::vector<int32_t> blocks = r.blocks[0];
  step(c);
  const ContextStep next = c.begin_step();
  EXPECT_TRUE(next.decode_only);
  EXPECT_THAT(next.input_ids, ElementsAre(7));
  EXPECT_THAT(next.positions, ElementsAre(144));
  EXPECT_THAT(next.kv_lengths, ElementsAre(145));
  EXPECT_THAT(next.groups[0].block_table, ElementsAre(blocks[0], blocks[1]));
}

TEST(DynamicContext, PaddingTokensPointToTheDummyAndAreDropped) {
  ContextOptions options = limits(10);
  options.token_multiple = 8;
  DynamicContext c = context(16, options);
  c.add_request(request(0, 5));
  const ContextStep s = c.begin_step();
  EXPECT_EQ(s.padding, 3);
  EXPECT_EQ(s.input_ids.size(), 8u);
  for (int t = 5; t < 8; ++t) {
    EXPECT_EQ(s.groups[0].token_blocks[t], c.pool().dummy());
    EXPECT_EQ(s.groups[0].slots[t], -1);
    EXPECT_EQ(s.positions[t], 0);
    EXPECT_EQ(s.token_rows[t], -1);
  }
}

TEST(DynamicContext, RefusalsNameTheLimitAndChangeNothing) {
  DynamicContext c = context(16, limits(6, 2, 40));
  c.add_request(request(0, 20));
  const auto used = c.active_blocks_used();
  const auto same = [&] {
    return c.active().size() == 1 && c.active_blocks_used() == used && c.broken_invariant() == "" &&
           c.pool().available() == 3;
  };
  ContextOverflow error = overflow_of([&] { c.add_request(request(1, 25, 1), 25); });
  EXPECT_EQ(error.reason(), Refusal::kTokens);
  EXPECT_THAT(error.what(), testing::HasSubstr("TokenOverflow"));
  EXPECT_TRUE(same());
  error = overflow_of([&] { c.add_request(request(1, 999, 2)); });
  EXPECT_EQ(error.reason(), Refusal::kLength);
  EXPECT_FALSE(error.transient());
  EXPECT_THAT(error.what(), testing::HasSubstr("MaxSequenceLengthOverflow"));
  error = overflow_of([&] { c.add_request(request(1, 81, 0)); });
  EXPECT_EQ(error.reason(), Refusal::kLength) << "six blocks will never be there";
  EXPECT_TRUE(same());
  DynamicContext tight = context(16, limits(6, 2, 400));
  tight.add_request(request(0, 60, 1));
  error = overflow_of([&] { tight.add_request(request(1, 30, 1)); });
  EXPECT_EQ(error.reason(), Refusal::kBlocks);
  EXPECT_TRUE(error.transient());
  EXPECT_THAT(error.what(), testing::HasSubstr("BlockOverflow"));
  EXPECT_EQ(tight.pool().available(), 1);
  EXPECT_EQ(tight.broken_invariant(), "");
  c.add_request(request(1, 5, 1));
  error = overflow_of([&] { c.add_request(request(2, 1, 1)); });
  EXPECT_EQ(error.reason(), Refusal::kRequests);
  EXPECT_THAT(error.what(), testing::HasSubstr("RequestOverflow"));
  c.set_released(true);
  error = overflow_of([&] { c.add_request(request(2, 1, 1)); });
  EXPECT_EQ(error.reason(), Refusal::kReleased);
  EXPECT_THAT(error.what(), testing::HasSubstr("TensorStateDeallocated"));
  EXPECT_THROW(c.begin_step(), ContextOverflow);
}

TEST(DynamicContext, ConfigErrors) {
  DynamicContext c = context(16, limits(6));
  EXPECT_THROW(c.add_request(request(0, 0)), ConfigError);
  EXPECT_THROW(c.begin_step(), ConfigError);
  EXPECT_THROW(c.try_continue(), ConfigError);
  c.add_request(request(0, 5, 10));
  EXPECT_THROW(c.add_request(request(0, 5, 10)), ConfigError);
  EXPECT_THROW(c.add_request(request(1, 5, 10), 6), ConfigError);
  EXPECT_THROW(c.update({}), ConfigError);
  EXPECT_THROW(c.update({{.next_tokens = {1, 2}}}), ConfigError);
  EXPECT_THROW(c.update({{.next_tokens = {}}}), ConfigError);
  EXPECT_THROW(c.update({{.next_tokens = {1}, .rejected = 1}}), ConfigError);
  for (auto change : {+[](ContextOptions& o) { o.max_requests = 0; },
                      +[](ContextOptions& o) { o.max_tokens = 7; },
                      +[](ContextOptions& o) { o.speculative_tokens = 16; },
                      +[](ContextOptions& o) { o.max_sequence_length = 0; },
                      +[](ContextOptions& o) { o.token_multiple = 0; },
                      +[](ContextOptions& o) { o.paused_blocks = 5; },
                      +[](ContextOptions& o) { o.num_blocks = 1; }}) {
    ContextOptions options = limits(6);
    change(options);
    EXPECT_THROW(context(16, options), ConfigError);
  }
}

TEST(DynamicContext, ChunksNeverLeaveASingleToken) {
  EXPECT_EQ(chunk_length(20, 30, 30), 20);
  EXPECT_EQ(chunk_length(20, 8, 30), 8);
  EXPECT_EQ(chunk_length(20, 19, 30), 18);
  EXPECT_EQ(chunk_length(2, 1, 30), 0);
  EXPECT_EQ(chunk_length(2, 1, 1), 1);
  EXPECT_EQ(chunk_length(2, 0, 30), 0);
}

TEST(DynamicContext, AChunkedPromptKeepsItsBlocksWhileOthersFinish) {
  DynamicContext c = context(4, limits(40, 4, 10));
  c.add_request(request(0, 3));
  c.add_request(request(1, 20));
  EXPECT_EQ(c.active().back().query_length(), 7);
  NewRequest third = request(2, 2);
  EXPECT_EQ(c.try_add(third), Refusal::kTokens);
  ContextStep s = c.begin_step();
  EXPECT_THAT(s.samples, ElementsAre(true, false));
  const std::vector<int32_t> blocks = c.active().back().blocks[0];
  c.update({{.finished = true}, {}});
  EXPECT_TRUE(c.mid_prompt());
  EXPECT_THAT(c.active(), IsEmpty());
  EXPECT_EQ(c.find(1)->blocks[0], blocks);
  EXPECT_EQ(c.try_add(third), Refusal::kTokens) << "the unfinished prompt goes first";
  EXPECT_EQ(c.try_continue(), std::nullopt);
  const ContextRequest& r = c.active().front();
  EXPECT_EQ(r.kv_offset, 7);
  EXPECT_EQ(r.query_length(), 10);
  EXPECT_EQ(r.blocks[0][1], blocks[1]) << "the partial block goes on";
  EXPECT_EQ(r.blocks[0].size(), 5u);
  EXPECT_THAT(c.begin_step().positions, ElementsAre(7, 8, 9, 10, 11, 12, 13, 14, 15, 16));
  step(c);
  EXPECT_EQ(c.try_continue(), std::nullopt);
  EXPECT_EQ(c.try_add(third), std::nullopt);
  s = c.begin_step();
  EXPECT_THAT(s.request_ids, ElementsAre(1, 2));
  EXPECT_THAT(s.samples, ElementsAre(true, true));
  EXPECT_EQ(c.broken_invariant(), "");
}

TEST(DynamicContext, GrowsByABlockOnlyWhenTheLastIsFull) {
  DynamicContext c = context(4, limits(20));
  c.add_request(request(0, 3));
  for (const size_t blocks : {1u, 2u, 2u, 2u, 2u, 3u}) {
    step(c);
    EXPECT_EQ(c.active().front().blocks[0].size(), blocks);
  }
}

TEST(DynamicContext, DraftedTokensCrossABlockBoundaryAndRejectedOnesAreForgotten) {
  ContextOptions options = limits(20);
  options.speculative_tokens = 2;
  DynamicContext c = context(4, options);
  c.add_request(request(0, 2));
  c.update({{.next_tokens = {5, 6, 7}}});
  const auto& blocks = c.active().front().blocks[0];
  ASSERT_EQ(blocks.size(), 2u);
  ContextStep s = c.begin_step();
  EXPECT_THAT(s.positions, ElementsAre(2, 3, 4));
  EXPECT_THAT(s.groups[0].token_blocks, ElementsAre(blocks[0], blocks[0], blocks[1]));
  EXPECT_THAT(s.groups[0].slots, ElementsAre(blocks[0] * 4 + 2, blocks[0] * 4 + 3, blocks[1] * 4));
  c.update({{.next_tokens = {8, 9, 10}, .rejected = 2}});
  s = c.begin_step();
  EXPECT_THAT(s.positions, ElementsAre(3, 4, 5));
  EXPECT_THAT(s.kv_lengths, ElementsAre(6));
  EXPECT_THROW(c.update({{.next_tokens = {1}, .rejected = 3}}), ConfigError);
}

TEST(DynamicContext, LayersWithAWindowGiveBackWhatIsBehindIt) {
  // Group 0 is full, groups 1 to 3 see 5 tokens.
  DynamicContext c(plan_pages(test::tiny_step(), 2), limits(200));
  c.add_request(request(0, 21));
  EXPECT_EQ(c.active_blocks_used(), 4 * 11);
  for (int n = 0; n < 6; ++n) {
    step(c);
    const ContextRequest& r = c.active().front();
    for (int g = 1; g < 4; ++g) {
      for (int64_t k = 0; k < static_cast<int64_t>(r.blocks[g].size()); ++k) {
        // Rows the next query sees: [kv_offset - 4, kv_offset].
        EXPECT_EQ(r.blocks[g][k] >= 0, 2 * k + 1 >= r.kv_offset - 4) << "block " << k;
      }
    }
    EXPECT_EQ(std::count(r.blocks[0].begin(), r.blocks[0].end(), -1), 0);
    EXPECT_EQ(c.broken_invariant(), "");
  }
  EXPECT_LE(c.active_blocks_used(), 14 + 3 * 3);
}

TEST(DynamicContext, RequestsWithoutRoomPauseAndResumeLastInFirstOut) {
  ContextOptions options = limits(8);
  options.paused_blocks = 2;  // five for the active ones
  DynamicContext c = context(4, options);
  c.add_request(request(0, 4, 10));
  c.add_request(request(1, 4, 10));
  c.add_request(request(2, 4, 10));
  UpdateResult result = step(c);
  // Each needs a second block, there are five in all: the first comers get theirs.
  EXPECT_THAT(result.paused, ElementsAre(2));
  EXPECT_THAT(ids_of(c.active()), ElementsAre(0, 1));
  EXPECT_EQ(c.find(2)->blocks[0].size(), 1u) << "a paused request keeps its blocks";
  EXPECT_EQ(c.broken_invariant(), "");
  c.update({{.finished = true}, {.next_tokens = {7}}});
  EXPECT_THAT(ids_of(c.active()), ElementsAre(1, 2));
  EXPECT_EQ(c.find(2)->blocks[0].size(), 2u);
  EXPECT_THAT(c.begin_step().positions, ElementsAre(5, 4));
}

TEST(DynamicContext, WhoOverflowsThePausedShareIsEvictedLatestFirst) {
  DynamicContext c = context(4, limits(4));
  c.add_request(request(0, 4, 4));
  c.add_request(request(1, 4, 4));
  const UpdateResult result = step(c);
  EXPECT_THAT(result.evicted, ElementsAre(1));
  EXPECT_THAT(result.paused, IsEmpty());
  EXPECT_EQ(c.find(1), nullptr);
  EXPECT_THAT(ids_of(c.active()), ElementsAre(0));
  EXPECT_EQ(c.broken_invariant(), "");
}

TEST(DynamicContext, RemoveGivesEverythingBackWhereverTheRequestIs) {
  ContextOptions options = limits(8, 8, 9);
  options.paused_blocks = 2;
  DynamicContext c = context(4, options);
  for (int id = 0; id < 3; ++id) c.add_request(request(id, 3, 8));
  step(c);
  step(c);
  ASSERT_EQ(ids_of(c.paused()), (std::vector<int64_t>{2}));
  EXPECT_TRUE(c.remove(2));
  EXPECT_TRUE(c.remove(0));
  EXPECT_FALSE(c.remove(0));
  c.add_request(request(3, 11, 1), 6);
  c.update({{.next_tokens = {7}}, {}});
  ASSERT_TRUE(c.mid_prompt());
  EXPECT_TRUE(c.remove(3));
  EXPECT_TRUE(c.remove(1));
  EXPECT_EQ(c.pool().available(), c.total_blocks());
  EXPECT_EQ(c.broken_invariant(), "");
}

TEST(DynamicContext, PausedRequestsGoOnWhenOthersAreRemoved) {
  ContextOptions options = limits(6);
  options.paused_blocks = 1;
  DynamicContext c = context(4, options);
  c.add_request(request(0, 4, 8));
  c.add_request(request(1, 4, 8));
  c.add_request(request(2, 4, 8));
  EXPECT_THAT(step(c).paused, ElementsAre(2));
  EXPECT_THAT(c.try_resume().resumed, IsEmpty());
  c.remove(0);
  EXPECT_THAT(c.try_resume().resumed, ElementsAre(2));
  EXPECT_THAT(ids_of(c.active()), ElementsAre(1, 2));
  EXPECT_EQ(c.broken_invariant(), "");
}

TEST(DynamicContext, DropAllEmptiesIt) {
  DynamicContext c = context(4, limits(20));
  c.add_request(request(0, 9));
  c.add_request(request(1, 9));
  EXPECT_THAT(c.drop_all(), ElementsAre(0, 1));
  EXPECT_EQ(c.pool().available(), 19);
  c.add_request(request(0, 9));
  c.reset();
  EXPECT_THAT(c.active(), IsEmpty());
  EXPECT_EQ(c.broken_invariant(), "");
}

}  // namespace
}  // namespace headway::engine
