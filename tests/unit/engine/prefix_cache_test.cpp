// Prefix caching: what is shared, skipped, deferred, evicted.
// Not for: numbers of a model (paged_runner_test.cpp).
#include <numeric>
#include <set>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "headway/engine/dynamic_context.h"

#include "tests/support/tiny_specs.h"

namespace headway::engine {
namespace {

using testing::ElementsAre;

ContextOptions caching(int64_t num_blocks, PrefixPolicy policy = PrefixPolicy::kLru) {
  ContextOptions options;
  options.num_blocks = num_blocks;
  options.max_requests = 32;
  options.max_tokens = 500;
  options.max_sequence_length = 500;
  options.prefix_caching = true;
  options.prefix_policy = policy;
  return options;
}

DynamicContext context(const ContextOptions& options) {
  return DynamicContext(plan_pages(test::tiny_llama(1), 4), options);
}

NewRequest request(int64_t id, std::vector<int64_t> prompt, int64_t output = 4) {
  return {.id = id,
          .prompt = std::move(prompt),
          .output_length = output,
          .arrival = static_cast<uint64_t>(id)};
}

std::vector<int64_t> count_up(int64_t length) {
  std::vector<int64_t> tokens(static_cast<size_t>(length));
  std::iota(tokens.begin(), tokens.end(), 0);
  return tokens;
}

void step(DynamicContext& c, bool finish = false) {
  std::vector<StepOutcome> outcomes;
  for (const bool samples : c.begin_step().samples) {
    outcomes.push_back(samples ? StepOutcome{.finished = finish, .next_tokens = {}}
                               : StepOutcome{});
    if (samples && !finish) outcomes.back().next_tokens = {7};
  }
  c.update(outcomes);
}

/// Runs `prompt` through and leaves only what the cache keeps.
void run_once(DynamicContext& c, int64_t id, const std::vector<int64_t>& prompt) {
  c.add_request(request(id, prompt));
  step(c, true);
}

TEST(PrefixCache, TenEqualPromptsShareAllButTheirEnd) {
  DynamicContext c = context(caching(60));
  c.add_request(request(0, count_up(10)));
  step(c);
  for (int64_t id = 1; id < 10; ++id) {
    c.add_request(request(id, count_up(10)));
    const ContextRequest& r = *c.find(id);
    EXPECT_EQ(r.skipped, 8);
    EXPECT_EQ(r.kv_offset, 8);
    EXPECT_THAT(r.tokens, ElementsAre(8, 9));
    EXPECT_EQ(r.blocks[0][0], c.find(0)->blocks[0][0]);
    EXPECT_EQ(r.blocks[0][1], c.find(0)->blocks[0][1]);
    EXPECT_NE(r.blocks[0][2], c.find(0)->blocks[0][2]);
  }
  EXPECT_EQ(c.pool().references(c.find(0)->blocks[0][0]), 10);
  EXPECT_EQ(c.active_blocks_used(), 2 + 10) << "shared blocks count once";
  EXPECT_EQ(c.broken_invariant(), "");
}

TEST(PrefixCache, EqualPromptsOfOnePassWaitForTheFirst) {
  DynamicContext c = context(caching(60));
  c.add_request(request(0, count_up(10)));
  NewRequest second = request(1, count_up(10));
  EXPECT_EQ(c.try_add(second), Refusal::kDeferred);
  EXPECT_EQ(second.prompt.size(), 10u) << "a refused request keeps its prompt";
  NewRequest other = request(2, {5, 5, 5, 5, 5});
  EXPECT_EQ(c.try_add(other), std::nullopt);
  step(c);
  EXPECT_EQ(c.try_add(second), std::nullopt);
  EXPECT_EQ(c.find(1)->skipped, 8);
}

TEST(PrefixCache, ADivergentSuffixSharesWhatIsEqual) {
  DynamicContext c = context(caching(60));
  run_once(c, 0, count_up(16));
  std::vector<int64_t> prompt = count_up(16);
  prompt[9] = 99;
  c.add_request(request(1, prompt));
  EXPECT_EQ(c.find(1)->skipped, 8);
  prompt[0] = 99;
  c.add_request(request(2, prompt));
  EXPECT_EQ(c.find(2)->skipped, 0);
}

TEST(PrefixCache, AFullMatchRunsItsLastBlockAgainWithoutWritingIt) {
  DynamicContext c = context(caching(60));
  run_once(c, 0, count_up(12));
  c.add_request(request(1, count_up(12)));
  const ContextRequest& r = *c.find(1);
  EXPECT_EQ(r.skipped, 8) << "at least two tokens run";
  EXPECT_EQ(r.blocks[0].size(), 3u);
  const ContextStep s = c.begin_step();
  EXPECT_THAT(s.positions, ElementsAre(8, 9, 10, 11));
  const int32_t dummy = c.pool().dummy();
  EXPECT_THAT(s.groups[0].token_blocks, ElementsAre(dummy, dummy, dummy, dummy));
  EXPECT_THAT(s.groups[0].slots, ElementsAre(-1, -1, -1, -1));
  EXPECT_EQ(s.groups[0].block_table[2], r.blocks[0][2]);
  step(c);
  EXPECT_THAT(c.begin_step().positions, ElementsAre(12));
  EXPECT_GE(c.begin_step().groups[0].slots[0], 0);
  // One token behind a whole number of blocks: its block runs again, too.
  c.add_request(request(2, count_up(13)));
  EXPECT_EQ(c.find(2)->skipped, 8);
  // A prompt of one block has nothing to skip.
  c.add_request(request(3, count_up(4)));
  EXPECT_EQ(c.find(3)->skipped, 0);
  EXPECT_EQ(c.broken_invariant(), "");
}

TEST(PrefixCache, ABrokenChainMatchesOnlyBeforeTheGap) {
  DynamicContext c = context(caching(6));  // five blocks
  run_once(c, 0, count_up(16));            // four named ones, the end of the prefix the oldest
  run_once(c, 1, {9, 9, 9, 9, 9});         // one free, one evicted
  EXPECT_EQ(c.pool().cached(), 4);
  c.add_request(request(2, count_up(16)));
  EXPECT_EQ(c.find(2)->skipped, 12);
  EXPECT_EQ(c.broken_invariant(), "");
}

TEST(PrefixCache, RefZeroSharesOnlyWithTheLiving) {
  DynamicContext c = context(caching(60, PrefixPolicy::kRefZero));
  c.add_request(request(0, count_up(10)));
  step(c);
  c.add_request(request(1, count_up(10)));
  EXPECT_EQ(c.find(1)->skipped, 8);
  c.remove(0);
  c.add_request(request(2, count_up(10)));
  EXPECT_EQ(c.find(2)->skipped, 8) << "request 1 still holds the blocks";
  c.remove(1);
  c.remove(2);
  c.add_request(request(3, count_up(10)));
  EXPECT_EQ(c.find(3)->skipped, 0);
}

TEST(PrefixCache, ATightPoolNeverEvictsWhatJustMatched) {
  DynamicContext c = context(caching(6));  // five blocks
  run_once(c, 0, count_up(16));            // four of them cached
  // Matches two blocks and needs three more: one is free, the others come from the cache's end.
  std::vector<int64_t> prompt = count_up(8);
  prompt.resize(18, 77);
  c.add_request(request(1, prompt, 2), 18);
  const ContextRequest& r = *c.find(1);
  EXPECT_EQ(r.skipped, 8);
  EXPECT_EQ(std::set<int32_t>(r.blocks[0].begin(), r.blocks[0].end()).size(), 5u);
  EXPECT_EQ(c.pool().cached(), 0);
  EXPECT_EQ(c.broken_invariant(), "");
  c.remove(1);
  // Pinned blocks are not counted as room.
  run_once(c, 2, count_up(16));
  prompt.resize(20, 77);
  NewRequest large = request(3, prompt, 0);
  EXPECT_EQ(c.try_add(large), std::nullopt);
  NewRequest more = request(4, {1}, 0);
  EXPECT_EQ(c.try_add(more), Refusal::kBlocks);
  EXPECT_EQ(c.broken_invariant(), "");
}

TEST(PrefixCache, LaterChunksMatchTooWhenTheyStartAtABlock) {
  DynamicContext c = context(caching(60));
  run_once(c, 0, count_up(24));
  c.add_request(request(1, count_up(24)), 4);
  EXPECT_EQ(c.find(1)->skipped, 0) << "four tokens: all of them would be a single block";
  c.update({{}});
  EXPECT_EQ(c.try_continue(), std::nullopt);
  EXPECT_EQ(c.find(1)->skipped, 16);
  EXPECT_EQ(c.find(1)->kv_offset, 20);
  EXPECT_EQ(c.broken_invariant(), "");
}

TEST(PrefixCache, WindowLayersNeedOnlyTheBlocksInSight) {
  ContextOptions options = caching(200);
  DynamicContext c(plan_pages(test::tiny_step(), 4), options);  // windows of 5
  run_once(c, 0, count_up(40));
  c.add_request(request(1, count_up(42)));
  const ContextRequest& r = *c.find(1);
  EXPECT_EQ(r.skipped, 40);
  EXPECT_GE(r.blocks[0][0], 0);
  for (int g = 1; g < 4; ++g) {
    EXPECT_EQ(r.blocks[g][8], -1);
    EXPECT_GE(r.blocks[g][9], 0);
  }
  EXPECT_EQ(c.broken_invariant(), "");
}

TEST(PrefixCache, WhatNeverRanIsNotFound) {
  DynamicContext c = context(caching(60));
  c.add_request(request(0, count_up(10)));
  c.remove(0);
  c.add_request(request(1, count_up(10)));
  EXPECT_EQ(c.find(1)->skipped, 0);
}

}  // namespace
}  // namespace headway::engine
