// What PackedSeqParams become: rows, padding, positions, tails; every error and its text.
// Not for: attention over them (tests/property/ops/padded_attention_test.cpp).
#include "headway/ops/packed_boundaries.h"

#include <functional>

#include <ATen/Functions.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "headway/base/error.h"

namespace headway::ops {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::vector<int64_t> values(const at::Tensor& x) {
  return {x.data_ptr<int64_t>(), x.data_ptr<int64_t>() + x.numel()};
}

PackedBoundaries of(std::vector<int64_t> cu, std::optional<std::vector<int64_t>> padded = {}) {
  PackedBoundaries boundaries;
  boundaries.cu_seqlens_q = std::move(cu);
  boundaries.cu_seqlens_q_padded = std::move(padded);
  return boundaries;
}

std::string message_of(const std::function<void()>& action) {
  try {
    action();
  } catch (const ShapeError& error) {
    return error.what();
  }
  return "no ShapeError";
}

TEST(PackedBoundaries, WithoutGapsTheyArePackedSequences) {
  const Sequences want = packed_sequences({0, 6, 19, 22, 32});
  for (const auto& padded : {std::optional<std::vector<int64_t>>(),
                             std::optional(std::vector<int64_t>{0, 6, 19, 22, 32})}) {
    const Sequences got = sequences_of(of({0, 6, 19, 22, 32}, padded), 32, 32);
    EXPECT_EQ(got.cu_q, want.cu_q);
    EXPECT_EQ(got.cu_k, want.cu_k);
    EXPECT_TRUE(at::equal(got.positions, want.positions));
    EXPECT_EQ(got.max_q, 13);
    EXPECT_EQ(got.max_k, 13);
    EXPECT_EQ(got.position_limit, 13);
    EXPECT_TRUE(got.self_contained());
  }
}

TEST(PackedBoundaries, PaddingHasQueriesWithoutKeysAndKeysWithoutQueries) {
  const Sequences got = sequences_of(of({0, 3, 5}, {{0, 4, 7}}), 7, 7);
  // sequence, its query padding, its key padding, twice
  EXPECT_THAT(got.cu_q, ElementsAre(0, 3, 4, 4, 6, 7, 7));
  EXPECT_THAT(got.cu_k, ElementsAre(0, 3, 3, 4, 6, 6, 7));
  EXPECT_THAT(values(got.positions), ElementsAre(0, 1, 2, 0, 0, 1, 0));
  EXPECT_THAT(values(key_positions(got)), ElementsAre(0, 1, 2, 0, 0, 1, 0));
  EXPECT_EQ(got.position_limit, 3);
  check_sequences(got, 7, 7, "test");
}

TEST(PackedBoundaries, TheLastEntryCountsWhenPaddingIsDerived) {
  // Only the last sequence has a gap behind it: all earlier entries agree.
  const Sequences got = sequences_of(of({0, 4, 7}, {{0, 4, 9}}), 9, 9);
  EXPECT_THAT(got.cu_q, ElementsAre(0, 4, 7, 9, 9));
  EXPECT_THAT(got.cu_k, ElementsAre(0, 4, 7, 7, 9));
}

TEST(PackedBoundaries, ACallerWhoAssertsNoGapsGetsThePaddedBoundaries) {
  PackedBoundaries boundaries = of({0, 3, 5}, {{0, 4, 7}});
  boundaries.pad_between_seqs = false;
  const Sequences got = sequences_of(boundaries, 7, 7);
  EXPECT_THAT(got.cu_q, ElementsAre(0, 4, 7));
  EXPECT_EQ(got.cu_q, got.cu_k);
  boundaries.pad_between_seqs = true;
  EXPECT_EQ(sequences_of(boundaries, 7, 7).num_sequences(), 6);
}

TEST(PackedBoundaries, RepeatedTailEntriesAreEmptySequences) {
  const Sequences got = sequences_of(of({0, 3, 5, 5, 5}, {{0, 4, 10, 10, 10}}), 10, 10);
  EXPECT_THAT(got.cu_q, ElementsAre(0, 3, 4, 4, 6, 10, 10, 10, 10));
  EXPECT_EQ(got.num_tokens(), 10);
  EXPECT_EQ(sequences_of(of({0, 0, 0}), 0, 0).num_sequences(), 2);
  EXPECT_EQ(sequences_of(of({0}), 0, 0).num_sequences(), 0);
}

TEST(PackedBoundaries, QueriesAndKeysMayDiffer) {
  PackedBoundaries boundaries = of({0, 2, 5});
  boundaries.cu_seqlens_kv = {0, 4, 5};
  boundaries.cu_seqlens_kv_padded = {{0, 6, 8}};
  const Sequences got = sequences_of(boundaries, 5, 8);
  EXPECT_THAT(got.cu_q, ElementsAre(0, 2, 2, 5, 5));
  EXPECT_THAT(got.cu_k, ElementsAre(0, 4, 6, 7, 8));
  EXPECT_THAT(values(key_positions(got)), ElementsAre(0, 1, 2, 3, 0, 0, 0, 0));
  EXPECT_EQ(got.max_q, 3);
  EXPECT_EQ(got.max_k, 4);
}

TEST(PackedBoundaries, TailPolicies) {
  PackedBoundaries boundaries = of({0, 3, 5}, {{0, 4, 8}});
  EXPECT_THAT(message_of([&] { sequences_of(boundaries, 14, 14); }),
              HasSubstr("cu_seqlens_q_padded = ends at 8, allowed 14, the number of rows; hint: "
                        "tail policy append_dummy_seq or extend_last"));
  boundaries.tail = TailPolicy::kAppendDummySequence;
  EXPECT_THAT(sequences_of(boundaries, 14, 14).cu_q, ElementsAre(0, 3, 4, 4, 6, 8, 8, 14));
  EXPECT_THAT(sequences_of(boundaries, 14, 14).cu_k, ElementsAre(0, 3, 3, 4, 6, 6, 8, 14));
  boundaries.tail = TailPolicy::kExtendLast;
  EXPECT_THAT(sequences_of(boundaries, 10, 10).cu_q, ElementsAre(0, 3, 4, 4, 6, 10, 10));
  EXPECT_THAT(sequences_of(boundaries, 10, 10).cu_k, ElementsAre(0, 3, 3, 4, 6, 6, 10));
  PackedBoundaries none = of({0});
  none.tail = TailPolicy::kExtendLast;
  EXPECT_THAT(message_of([&] { sequences_of(none, 2, 2); }),
              HasSubstr("cu_seqlens_q = [0], allowed a sequence that extend_last can extend"));
}

TEST(PackedBoundaries, SamplesAreMergedByTheirRows) {
  PackedBoundaries second = of({0, 1, 4, 4}, {{0, 2, 6, 6}});
  const Sequences got = merged_sequences({of({0, 2, 6, 6}), second}, 6);
  EXPECT_THAT(got.cu_q, ElementsAre(0, 2, 6, 7, 8, 8, 11, 12, 12));
  EXPECT_THAT(got.cu_k, ElementsAre(0, 2, 6, 7, 7, 8, 11, 11, 12));
  EXPECT_THAT(values(got.positions), ElementsAre(0, 1, 0, 1, 2, 3, 0, 0, 0, 1, 2, 0));
  EXPECT_THAT(message_of([&] {
                merged_sequences({of({0, 2, 5})}, 6);
              }),
              HasSubstr("cu_seqlens_q = ends at 5, allowed 6"));
}

TEST(PackedBoundaries, EveryListIsChecked) {
  const auto with = [](const auto& change) {
    PackedBoundaries boundaries = of({0, 3, 5}, {{0, 4, 7}});
    change(boundaries);
    return message_of([&] { sequences_of(boundaries, 7, 7); });
  };
  using B = PackedBoundaries;
  EXPECT_EQ(with([](B&) {}), "no ShapeError");
  EXPECT_THAT(with([](B& b) { b.cu_seqlens_q = {}; }),
              HasSubstr("cu_seqlens_q = empty, allowed boundaries from 0"));
  EXPECT_THAT(with([](B& b) {
                b.cu_seqlens_q = {1, 3, 5};
              }),
              HasSubstr("cu_seqlens_q = from 1, allowed boundaries from 0"));
  EXPECT_THAT(with([](B& b) {
                b.cu_seqlens_q = {0, 3, 2};
              }),
              HasSubstr("cu_seqlens_q[2] = 2, allowed at least 3, the boundary before"));
  EXPECT_THAT(with([](B& b) {
                b.cu_seqlens_q = {0, -3, 2};
              }),
              HasSubstr("cu_seqlens_q[1] = -3, allowed at least 0"));
  EXPECT_THAT(with([](B& b) {
                b.cu_seqlens_q_padded = {{0, 4, 8}};
              }),
              HasSubstr("cu_seqlens_q_padded = ends at 8, allowed at most 7 rows"));
  EXPECT_THAT(with([](B& b) {
                b.cu_seqlens_q_padded = {{0, 7}};
              }),
              HasSubstr("cu_seqlens_q_padded = 2 boundaries, allowed as many as cu_seqlens_q "
                        "(= 3)"));
  EXPECT_THAT(with([](B& b) {
                b.cu_seqlens_q_padded = {{0, 2, 7}};
              }),
              HasSubstr("cu_seqlens_q_padded = 2 rows for sequence 0, allowed at least its length "
                        "(= 3)"));
  EXPECT_THAT(with([](B& b) {
                b.cu_seqlens_kv = {0, 7};
              }),
              HasSubstr("cu_seqlens_kv = 2 boundaries, allowed as many as cu_seqlens_q (= 3)"));
  EXPECT_THAT(with([](B& b) {
                b.cu_seqlens_kv = {0, 3, 5};
              }),
              HasSubstr("cu_seqlens_kv = ends at 5, allowed 7"));
  EXPECT_THAT(with([](B& b) { b.max_seqlen_q = 2; }),
              HasSubstr("max_seqlen_q = 2, allowed at least 3, the longest sequence"));
  EXPECT_THAT(with([](B& b) { b.max_seqlen_kv = 2; }), HasSubstr("max_seqlen_kv = 2"));
}

}  // namespace
}  // namespace headway::ops
