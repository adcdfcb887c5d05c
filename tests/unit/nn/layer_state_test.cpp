// The cache grows on full layers and stays bounded on windowed ones.
#include "headway/nn/layer_state.h"

#include <algorithm>

#include <ATen/Functions.h>
#include <gtest/gtest.h>

#include "headway/base/error.h"

#include "tests/support/tiny_specs.h"

namespace headway::nn {
namespace {

at::Tensor rows(int64_t first, int64_t count) {
  return at::arange(first, first + count, at::kFloat)
      .view({count, 1, 1})
      .expand({count, 2, 3})
      .contiguous();
}

TEST(KvCache, FullLayerKeepsEverythingInOrder) {
  KvCache cache(std::nullopt);
  int64_t total = 0;
  for (const int64_t count : {5, 1, 1, 90, 1, 200}) {
    const KvCache::View view = cache.append(rows(total, count), rows(total, count));
    total += count;
    ASSERT_TRUE(at::equal(view.k_SGK, rows(0, total)));
    ASSERT_TRUE(at::equal(view.v_SGV, rows(0, total)));
  }
  EXPECT_EQ(cache.length(), total);
}

TEST(KvCache, WindowKeepsTheLastRowsAndBoundedMemory) {
  const int64_t window = 7;
  KvCache cache(window);
  int64_t total = 0;
  int64_t largest = 0;
  for (int step = 0; step < 2000; ++step) {
    const int64_t count = step % 5 == 0 ? 3 : 1;
    const int64_t past = std::min(total, window - 1);
    const KvCache::View view = cache.append(rows(total, count), rows(total, count));
    total += count;
    ASSERT_TRUE(at::equal(view.k_SGK, rows(total - count - past, past + count))) << step;
    largest = std::max(largest, cache.capacity());
  }
  EXPECT_EQ(cache.length(), window - 1);
  EXPECT_LE(largest, 64);
}

/// Rows are appended, some of them dropped and others appended, at every fill of the buffer.
TEST(KvCache, DroppedRowsWereNeverThere) {
  for (const std::optional<int64_t> window :
       {std::optional<int64_t>(), std::optional<int64_t>(1), std::optional<int64_t>(7)}) {
    KvCache cache(window);
    int64_t total = 0;
    for (int step = 0; step < 300; ++step) {
      const int64_t count = 1 + step % 9, wrong = step % (count + 1);
      const int64_t held = window ? std::min(total, *window - 1) : total;
      at::Tensor given = rows(total, count);
      given.narrow(0, count - wrong, wrong).fill_(-1.0);
      const KvCache::View view = cache.append(given, given);
      ASSERT_TRUE(at::equal(view.k_SGK.narrow(0, 0, held), rows(total - held, held))) << step;
      ASSERT_EQ(view.k_SGK.size(0), held + count);
      cache.drop_last(wrong);
      total += count - wrong;
      ASSERT_EQ(cache.length(), window ? std::min(total, *window - 1) : total);
    }
    EXPECT_THROW(cache.drop_last(10), InternalError);
  }
}

TEST(KvCache, WindowOfOneRemembersNothing) {
  KvCache cache(1);
  cache.append(rows(0, 4), rows(0, 4));
  EXPECT_EQ(cache.length(), 0);
  EXPECT_TRUE(at::equal(cache.append(rows(4, 1), rows(4, 1)).k_SGK, rows(4, 1)));
}

TEST(ModelState, CountsBytesOfEveryLayer) {
  ModelState state = make_state(test::tiny_step());
  EXPECT_EQ(state.layers.size(), 4u);
  EXPECT_EQ(state.bytes(), 0);
  std::get<KvCache>(state.layers[0]).append(rows(0, 2), rows(0, 2));
  EXPECT_EQ(state.bytes(), 2 * 64 * 2 * 3 * 4);
}

}  // namespace
}  // namespace headway::nn
