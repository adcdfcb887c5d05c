// Rows of rotary tables for packed and context-parallel batches: worked examples, and that the
// ranks together hold every position once. Not for: the rotation.
#include "headway/ops/rope_rows.h"

#include <algorithm>
#include <numeric>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "headway/base/error.h"

namespace headway::ops {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

TEST(RopeRows, WorkedExamplesOfTwoRanks) {
  EXPECT_THAT(packed_rope_rows({0, 4, 8}, 4, {2, 0}, {TableRows::kPerToken, 8}),
              ElementsAre(0, 3, 4, 7));
  EXPECT_THAT(packed_rope_rows({0, 4, 8}, 4, {2, 0}, {TableRows::kPerSequence, 4}),
              ElementsAre(0, 3, 0, 3));
  EXPECT_THAT(packed_rope_rows({0, 4, 8}, 4, {2, 1}, {TableRows::kPerSequence, 4}),
              ElementsAre(1, 2, 1, 2));
  EXPECT_THAT(context_rope_rows(8, {2, 0}), ElementsAre(0, 1, 6, 7));
  EXPECT_THAT(context_rope_rows(8, {2, 1}), ElementsAre(2, 3, 4, 5));
  EXPECT_THAT(context_rope_rows(3, {1, 0}), ElementsAre(0, 1, 2));
}

TEST(RopeRows, TokensBeyondTheLastBoundaryGetLegalRows) {
  EXPECT_THAT(packed_rope_rows({0, 2, 5}, 8, {}, {TableRows::kPerSequence, 5}),
              ElementsAre(0, 1, 0, 1, 2, 3, 4, 4));
  EXPECT_THAT(packed_rope_rows({0, 2}, 4, {}, {TableRows::kPerToken, 2}), ElementsAre(0, 1, 1, 1));
  EXPECT_THAT(packed_rope_rows({0}, 2, {}, {TableRows::kPerToken, 2}), ElementsAre(0, 0));
  EXPECT_THAT(packed_rope_rows({0, 3, 3, 3}, 4, {}, {TableRows::kPerSequence, 9}),
              ElementsAre(0, 1, 2, 0));
}

TEST(RopeRows, RanksTogetherHoldEveryPositionOnce) {
  for (const int64_t ranks : {1, 2, 3, 4}) {
    for (const int64_t factor : {1, 2, 3, 5}) {  // odd local lengths too
      const int64_t length = ranks * factor;
      std::vector<int64_t> all;
      for (int64_t r = 0; r < ranks; ++r) {
        const auto rows = packed_rope_rows({0, length, 3 * length}, 3 * factor, {ranks, r},
                                           {TableRows::kPerToken, 3 * length});
        all.insert(all.end(), rows.begin(), rows.end());
      }
      std::sort(all.begin(), all.end());
      std::vector<int64_t> want(3 * length);
      std::iota(want.begin(), want.end(), 0);
      EXPECT_EQ(all, want) << ranks << " ranks of " << factor;
      if (factor % 2 != 0 && ranks > 1) continue;
      std::vector<int64_t> chunks;
      for (int64_t r = 0; r < ranks; ++r) {
        const auto rows = context_rope_rows(length, {ranks, r});
        EXPECT_EQ(rows, packed_rope_rows({0, length}, factor, {ranks, r},
                                         {TableRows::kPerSequence, length}));
        chunks.insert(chunks.end(), rows.begin(), rows.end());
      }
      std::sort(chunks.begin(), chunks.end());
      EXPECT_EQ(chunks, std::vector<int64_t>(want.begin(), want.begin() + length));
    }
  }
}

template <class Action>
std::string error_of(Action action) {
  try {
    action();
  } catch (const ShapeError& error) {
    return error.what();
  }
  return "nothing thrown";
}

TEST(RopeRows, Errors) {
  const RowSource table{TableRows::kPerSequence, 4};
  EXPECT_THAT(error_of([&] {
                packed_rope_rows({0, 3, 2}, 3, {}, table);
              }),
              HasSubstr("cu = not ordered"));
  EXPECT_THAT(error_of([&] { packed_rope_rows({}, 3, {}, table); }), HasSubstr("cu = not ordered"));
  EXPECT_THAT(error_of([&] {
                packed_rope_rows({0, 3}, 3, {2, 2}, table);
              }),
              HasSubstr("rank = 2 of 2"));
  EXPECT_THAT(error_of([&] {
                packed_rope_rows({0, 3}, 3, {}, {});
              }),
              HasSubstr("rows of the table"));
  EXPECT_THAT(error_of([&] { context_rope_rows(6, {2, 0}); }), HasSubstr("a multiple of 4"));
}

}  // namespace
}  // namespace headway::ops
