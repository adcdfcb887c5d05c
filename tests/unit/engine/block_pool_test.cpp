// Page ids: allocation, sharing, names, eviction; the hash chain of prompts.
#include "headway/engine/block_pool.h"

#include <numeric>
#include <set>

#include <gtest/gtest.h>

#include "headway/base/error.h"
#include "headway/engine/block_hash.h"

namespace headway::engine {
namespace {

TEST(BlockHash, GoldenChain) {
  std::vector<int64_t> tokens(8);
  std::iota(tokens.begin(), tokens.end(), 0);
  EXPECT_EQ(block_hashes(tokens, 4),
            (std::vector<uint64_t>{4832768347186360981u, 8533535913844734714u}));
  tokens.push_back(8);  // an incomplete block has no name
  EXPECT_EQ(block_hashes(tokens, 4).size(), 2u);
  tokens[0] = 9;  // a name depends on everything before its block
  EXPECT_NE(block_hashes(tokens, 4)[1], 8533535913844734714u);
}

TEST(BlockPool, GivesAllButTheDummyAndChangesNothingWhenItCannot) {
  BlockPool pool(5, PrefixPolicy::kLru);
  EXPECT_EQ(pool.dummy(), 4);
  EXPECT_EQ(pool.available(), 4);
  EXPECT_FALSE(pool.allocate(5));
  EXPECT_EQ(pool.available(), 4);
  const auto ids = pool.allocate(4);
  ASSERT_TRUE(ids);
  EXPECT_EQ(std::set<int32_t>(ids->begin(), ids->end()), (std::set<int32_t>{0, 1, 2, 3}));
  EXPECT_FALSE(pool.allocate(1));
  EXPECT_TRUE(pool.allocate(0));
  for (const int32_t id : *ids) pool.release(id);
  EXPECT_EQ(pool.available(), 4);
  EXPECT_EQ(pool.broken_invariant(), "");
  EXPECT_THROW(pool.release(0), InternalError);
  EXPECT_THROW(pool.retain(0), InternalError);
  EXPECT_THROW(BlockPool(1, PrefixPolicy::kLru), ConfigError);
}

int32_t named(BlockPool& pool, uint64_t hash) {
  const int32_t id = pool.allocate(1)->front();
  pool.name(id, {0, hash});
  pool.mark_filled(id);
  return id;
}

TEST(BlockPool, LruKeepsNamedBlocksUntilRoomIsNeededOldestFirst) {
  BlockPool pool(4, PrefixPolicy::kLru);
  const int32_t a = named(pool, 1), b = named(pool, 2), c = named(pool, 3);
  for (const int32_t id : {b, a, c}) pool.release(id);
  EXPECT_EQ(pool.available(), 3);
  EXPECT_EQ(pool.cached(), 3);
  pool.retain(b);  // wanted again: now the youngest once released
  pool.release(b);
  EXPECT_EQ(pool.allocate(1)->front(), a);
  EXPECT_FALSE(pool.find({0, 1}));
  EXPECT_EQ(pool.find({0, 2}), b);
  EXPECT_EQ(pool.allocate(1)->front(), c);
  EXPECT_EQ(pool.broken_invariant(), "");
}

TEST(BlockPool, RefZeroForgetsAtOnce) {
  BlockPool pool(4, PrefixPolicy::kRefZero);
  const int32_t a = named(pool, 1);
  pool.retain(a);
  pool.release(a);
  EXPECT_EQ(pool.find({0, 1}), a);
  pool.release(a);
  EXPECT_FALSE(pool.find({0, 1}));
  EXPECT_EQ(pool.cached(), 0);
  EXPECT_EQ(pool.available(), 3);
}

TEST(BlockPool, APinnedBlockIsNeverEvicted) {
  BlockPool pool(3, PrefixPolicy::kLru);
  const int32_t a = named(pool, 1);
  pool.release(a);
  pool.retain(a);
  EXPECT_FALSE(pool.allocate(2));
  EXPECT_NE(pool.allocate(1)->front(), a);
  EXPECT_EQ(pool.find({0, 1}), a);
}

TEST(BlockPool, AnUnwrittenBlockIsForgottenAndATakenNameStays) {
  BlockPool pool(4, PrefixPolicy::kLru);
  const int32_t a = pool.allocate(1)->front(), b = pool.allocate(1)->front();
  pool.name(a, {0, 7});
  pool.name(b, {0, 7});
  EXPECT_EQ(pool.find({0, 7}), a);
  EXPECT_FALSE(pool.is_named(b));
  EXPECT_FALSE(pool.find({1, 7})) << "another group of layers keeps other rows";
  pool.release(a);  // its forward never ran
  EXPECT_FALSE(pool.find({0, 7}));
  EXPECT_EQ(pool.broken_invariant(), "");
}

TEST(BlockPool, ForgetsContents) {
  BlockPool pool(4, PrefixPolicy::kLru);
  const int32_t a = named(pool, 1), b = named(pool, 2);
  pool.release(a);
  pool.forget_contents();
  EXPECT_FALSE(pool.find({0, 1}));
  EXPECT_FALSE(pool.find({0, 2}));
  EXPECT_EQ(pool.references(b), 1);
  EXPECT_EQ(pool.available(), 2);
  EXPECT_EQ(pool.broken_invariant(), "");
  pool.reset();
  EXPECT_EQ(pool.available(), 3);
}

}  // namespace
}  // namespace headway::engine
