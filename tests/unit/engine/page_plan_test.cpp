// Groups of layers, bytes of a page, and how many pages a request needs.
#include "headway/engine/page_plan.h"

#include <gtest/gtest.h>

#include "headway/base/error.h"

#include "tests/support/tiny_specs.h"

namespace headway::engine {
namespace {

TEST(PagePlan, OneKindOfLayerIsOneGroupWithMegatronsBytes) {
  const spec::ModelSpec spec = test::tiny_llama(3);  // 2 kv heads of 6
  const PagePlan plan = plan_pages(spec, 128);
  ASSERT_EQ(plan.groups.size(), 1u);
  EXPECT_EQ(plan.groups[0].layers, (std::vector<int64_t>{0, 1, 2}));
  // itemsize · 2 · layers · block · G · d
  EXPECT_EQ(plan.page_bytes(4), 4 * 2 * 3 * 128 * 2 * 6);
  EXPECT_EQ(blocks_in(plan, 10 * plan.page_bytes(4) + 5, 4), 10);
  EXPECT_EQ(blocks_in(plan, 1, 4), 2);
  EXPECT_EQ(plan.layers[1].k_offset, 2 * 128 * 2 * 6);
  EXPECT_EQ(plan.layers[1].v_offset, 3 * 128 * 2 * 6);
}

TEST(PagePlan, WindowsAreCutIntoGroupsOfEqualSize) {
  const PagePlan plan = plan_pages(test::tiny_step(), 4);  // full, then three with a window of 5
  ASSERT_EQ(plan.groups.size(), 4u);
  EXPECT_FALSE(plan.groups[0].window);
  EXPECT_EQ(plan.groups[0].layers, (std::vector<int64_t>{0}));
  for (int g = 1; g < 4; ++g) {
    EXPECT_EQ(plan.groups[g].window, 5);
    EXPECT_EQ(plan.groups[g].layers, (std::vector<int64_t>{g}));
  }
  // Pages are as large as the largest group needs.
  EXPECT_EQ(plan.page_elements, 4 * 2 * (8 + 8));
  // 100 rows: 25 full ones; 4 + 8 rows in sight touch at most 4 pages of each window layer.
  EXPECT_EQ(most_blocks(plan, 100, 8), 25 + 3 * 4);
  EXPECT_EQ(most_blocks(plan, 6, 100), 2 * 4);
}

TEST(PagePlan, RanksShareKvHeadsOrKeepOne) {
  EXPECT_EQ(kv_heads_of_rank(2, 8), 1);
  EXPECT_EQ(kv_heads_of_rank(8, 2), 4);
  const PagePlan plan = plan_pages(test::tiny_llama(1), 16, 8);
  EXPECT_EQ(plan.layers[0].kv_heads, 1);
  EXPECT_EQ(plan.page_bytes(2), 2 * 2 * 1 * 16 * 1 * 6);
}

TEST(PagePlan, UnequalValueHeads) {
  EXPECT_TRUE(pages_hold(test::tiny_odd()));
  const PagePlan plan = plan_pages(test::tiny_odd(), 16);  // 3 heads, 6 and 5 channels
  EXPECT_EQ(plan.page_elements, 3 * 16 * 3 * (6 + 5));
}

TEST(PagePlan, Errors) {
  const spec::ModelSpec spec = test::tiny_llama(1);
  EXPECT_THROW(plan_pages(spec, 0), ConfigError);
  EXPECT_THROW(plan_pages(spec, 16, 0), ConfigError);
  EXPECT_THROW(plan_pages(spec, int64_t{1} << 62), ConfigError);
}

}  // namespace
}  // namespace headway::engine
