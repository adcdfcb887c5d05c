// Cuts of self-attention over tensor-parallel ranks, for every H, G and T that fit together: they
// tile the rows, follow the specification's formula, and come back; wrong ones are refused.
// Not for: recorded tensors (tests/golden/megatron/shards_test.cpp).
#include "headway/io/megatron_shards.h"

#include <algorithm>
#include <functional>

#include <ATen/Functions.h>
#include <c10/util/accumulate.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "headway/base/error.h"

#include "tests/support/message_of.h"

namespace headway::io {
namespace {

using spec::GateKind;
using ::testing::HasSubstr;
using testing_support::message_of;

struct Case {
  QkvHeads heads;
  int64_t ranks;
};

std::string text(const Case& c) {
  return "H " + std::to_string(c.heads.num_heads) + " G " + std::to_string(c.heads.num_kv_heads) +
         " K " + std::to_string(c.heads.head_dim) + " gate " +
         std::to_string(static_cast<int>(c.heads.gate)) + " T " + std::to_string(c.ranks);
}

int64_t grouped(const QkvHeads& h) {
  const int64_t parts = h.gate == GateKind::kElementWise ? 2 : 1;
  return (parts * h.num_heads + 2 * h.num_kv_heads) * h.head_dim;
}

/// Every H up to 16 with every G, T and gate that rules V3, V4, V6 and V7 allow and whose rows
/// divide; head dims 1 to 5 with them.
std::vector<Case> every_case() {
  std::vector<Case> cases;
  for (const GateKind gate : {GateKind::kNone, GateKind::kHeadWise, GateKind::kElementWise}) {
    for (int64_t h = 1; h <= 16; ++h) {
      for (int64_t g = 1; g <= h; ++g) {
        for (int64_t t = 1; t <= h; ++t) {
          const QkvHeads heads{h, g, 1 + (h + g + t) % 5, gate};
          if (h % g != 0 || h % t != 0 || (g % t != 0 && t % g != 0)) continue;
          if (gate == GateKind::kHeadWise && g < t) continue;
          if (grouped(heads) % t == 0) cases.push_back({heads, t});
        }
      }
    }
  }
  return cases;
}

/// Row of the whole matrix that row `row` of rank `rank` must be, by §1.3.1.
int64_t formula(const Case& c, int64_t rank, int64_t row) {
  const int64_t local = grouped(c.heads) / c.ranks;
  if (row < local) return rank * local + row;
  return grouped(c.heads) + rank * (c.heads.num_heads / c.ranks) + row - local;
}

TEST(MegatronShards, SegmentsTileTheRowsAndFollowTheFormula) {
  const std::vector<Case> cases = every_case();
  EXPECT_GT(cases.size(), 250u);
  for (const Case& c : cases) {
    SCOPED_TRACE(text(c));
    std::vector<bool> seen(megatron_qkv_rows(c.heads).size());
    for (int64_t rank = 0; rank < c.ranks; ++rank) {
      int64_t next = 0;
      for (const QkvRowSegment& segment : qkv_row_segments(c.heads, {c.ranks, rank})) {
        ASSERT_EQ(segment.begin, next);
        ASSERT_GT(segment.rows, 0);
        const int64_t width = segment.part == QkvPart::kHeadGate ? 1 : c.heads.head_dim;
        ASSERT_LE(segment.channel + segment.rows, width);
        for (int64_t i = 0; i < segment.rows; ++i) {
          ASSERT_EQ(segment.global + i, formula(c, rank, segment.begin + i));
          ASSERT_FALSE(seen.at(segment.global + i));
          seen[segment.global + i] = true;
        }
        next += segment.rows;
      }
    }
    EXPECT_EQ(std::count(seen.begin(), seen.end(), false), 0);
  }
}

TEST(MegatronShards, SegmentsNameTheHeadsOfOurOrder) {
  // Our rows are q | k | v | gate by head: the segment's own words lead to the same row.
  for (const Case& c : every_case()) {
    if (c.ranks > 1) continue;
    SCOPED_TRACE(text(c));
    const QkvHeads& h = c.heads;
    const std::vector<int64_t> to_megatron = megatron_qkv_rows(h);
    const int64_t keys = h.num_heads * h.head_dim, values = keys + h.num_kv_heads * h.head_dim;
    const int64_t gates = values + h.num_kv_heads * h.head_dim;
    for (const QkvRowSegment& segment : qkv_row_segments(h)) {
      const int64_t channels = segment.head * h.head_dim;
      int64_t ours = channels;
      if (segment.part == QkvPart::kKey) ours = keys + channels;
      if (segment.part == QkvPart::kValue) ours = values + channels;
      if (segment.part == QkvPart::kChannelGate) ours = gates + channels;
      if (segment.part == QkvPart::kHeadGate) ours = gates + segment.head;
      for (int64_t i = 0; i < segment.rows; ++i) {
        EXPECT_EQ(to_megatron[ours + i], segment.global + i);
      }
    }
  }
}

TEST(MegatronShards, OneWorkedCut) {
  // H=4, G=2, K=2, T=2, head gates: rank 1 holds group 1 and the gates of heads 2 and 3.
  using P = QkvPart;
  const std::vector<QkvRowSegment> rank1 = {
      {P::kQuery, 2, 0, 0, 2, 8},  {P::kQuery, 3, 0, 2, 2, 10},    {P::kKey, 1, 0, 4, 2, 12},
      {P::kValue, 1, 0, 6, 2, 14}, {P::kHeadGate, 2, 0, 8, 1, 18}, {P::kHeadGate, 3, 0, 9, 1, 19}};
  EXPECT_EQ(qkv_row_segments({4, 2, 2, GateKind::kHeadWise}, {2, 1}), rank1);
  // H=4, G=1, K=2, T=4: the cut of 12 rows into 3 goes through heads.
  const std::vector<QkvRowSegment> rank2 = {{P::kQuery, 3, 0, 0, 2, 6}, {P::kKey, 0, 0, 2, 1, 8}};
  EXPECT_EQ(qkv_row_segments({4, 1, 2, GateKind::kNone}, {4, 2}), rank2);
}

AttentionTensors numbered(const QkvHeads& heads) {
  const auto rows = static_cast<int64_t>(megatron_qkv_rows(heads).size());
  const int64_t width = heads.num_heads * heads.head_dim;
  const auto count = [](at::IntArrayRef shape) {
    return at::arange(c10::multiply_integers(shape), at::kDouble).view(shape);
  };
  return {{"linear_qkv.weight", count({rows, 3})},
          {"linear_qkv.bias", count({rows})},
          {"linear_proj.weight", count({3, width})},
          {"linear_proj.bias", count({3})},
          {"q_layernorm.weight", count({heads.head_dim})},
          {"core_attention.softmax_offset", count({heads.num_heads})}};
}

void expect_same(const AttentionTensors& got, const AttentionTensors& want) {
  ASSERT_EQ(got.size(), want.size());
  for (const auto& [name, tensor] : want) {
    ASSERT_TRUE(got.contains(name)) << name;
    EXPECT_TRUE(at::equal(got.at(name), tensor)) << name;
  }
}

TEST(MegatronShards, EveryCutComesBackAlsoThroughTheFile) {
  for (const Case& c : every_case()) {
    SCOPED_TRACE(text(c));
    const AttentionTensors whole = numbered(c.heads);
    std::vector<AttentionTensors> shards;
    for (int64_t rank = 0; rank < c.ranks; ++rank) {
      const TensorRank place{c.ranks, rank};
      const AttentionTensors shard = attention_shard(whole, c.heads, place);
      const AttentionTensors file = to_checkpoint_keys(shard, c.heads, place);
      EXPECT_EQ(file.contains("linear_qkv.weight._gate"), c.heads.gate == GateKind::kHeadWise);
      expect_same(from_checkpoint_keys(file, c.heads, place), shard);
      shards.push_back(shard);
    }
    expect_same(attention_whole(shards, c.heads), whole);
  }
}

TEST(MegatronShards, ReshardingFilesFromAnySizeToAnyOther) {
  for (const GateKind gate : {GateKind::kNone, GateKind::kHeadWise, GateKind::kElementWise}) {
    for (const int64_t groups : {4, 8}) {
      const QkvHeads heads{8, groups, 4, gate};
      const AttentionTensors whole = numbered(heads);
      const auto cut = [&](int64_t ranks) {
        std::vector<AttentionTensors> shards;
        for (int64_t t = 0; t < ranks; ++t) {
          shards.push_back(attention_shard(whole, heads, {ranks, t}));
        }
        return shards;
      };
      for (const int64_t from : {1, 2, 4}) {
        for (const int64_t to : {1, 2, 4}) {
          const AttentionTensors between = attention_whole(cut(from), heads);
          for (int64_t t = 0; t < to; ++t) {
            expect_same(attention_shard(between, heads, {to, t}), cut(to)[t]);
          }
        }
      }
    }
  }
}

TEST(MegatronShards, HeadGatedShardsInARowAreNotTheWholeMatrix) {
  const QkvHeads heads{4, 2, 2, GateKind::kHeadWise};
  const AttentionTensors whole = numbered(heads);
  const at::Tensor a = attention_shard(whole, heads, {2, 0}).at("linear_qkv.weight");
  const at::Tensor b = attention_shard(whole, heads, {2, 1}).at("linear_qkv.weight");
  const at::Tensor in_a_row = at::cat({a, b});
  EXPECT_EQ(in_a_row.sizes(), whole.at("linear_qkv.weight").sizes());
  EXPECT_FALSE(at::equal(in_a_row, whole.at("linear_qkv.weight")));
  // Without a head gate they are.
  const QkvHeads plain{4, 2, 2, GateKind::kElementWise};
  const AttentionTensors other = numbered(plain);
  EXPECT_TRUE(at::equal(at::cat({attention_shard(other, plain, {2, 0}).at("linear_qkv.weight"),
                                 attention_shard(other, plain, {2, 1}).at("linear_qkv.weight")}),
                        other.at("linear_qkv.weight")));
}

TEST(MegatronShards, WrongSplitFilesAreRefused) {
  const QkvHeads heads{4, 2, 2, GateKind::kHeadWise};
  const AttentionTensors whole = numbered(heads);
  const TensorRank place{2, 1};
  const at::Tensor matrix = whole.at("linear_qkv.weight");  // 20 rows
  // Cut in two as if it were one matrix: 10 rows, as many as the right shard has.
  EXPECT_THAT(
      message_of<CheckpointError>([&] {
        from_checkpoint_keys({{"linear_qkv.weight", matrix.narrow(0, 10, 10)}}, heads, place);
      }),
      HasSubstr("linear_qkv.weight of rank 1 of 2: allowed linear_qkv.weight._qkv and "
                "linear_qkv.weight._gate"));
  // The gate rows stayed inside the first key.
  EXPECT_THAT(message_of<ShapeError>([&] {
                from_checkpoint_keys({{"linear_qkv.weight._qkv", matrix.narrow(0, 10, 10)},
                                      {"linear_qkv.weight._gate", matrix.narrow(0, 18, 2)}},
                                     heads, place);
              }),
              HasSubstr("linear_qkv.weight._qkv = 10 rows of 3, allowed 8 rows"));
  EXPECT_THAT(message_of<ShapeError>([&] {
                from_checkpoint_keys({{"linear_qkv.weight._qkv", matrix.narrow(0, 8, 8)},
                                      {"linear_qkv.weight._gate", matrix.narrow(0, 16, 4)}},
                                     heads, place);
              }),
              HasSubstr("linear_qkv.weight._gate = 4 rows of 3, allowed 2 rows"));
  EXPECT_THAT(
      message_of<CheckpointError>([&] {
        from_checkpoint_keys({{"linear_qkv.weight._qkv", matrix.narrow(0, 8, 8)}}, heads, place);
      }),
      HasSubstr("allowed linear_qkv.weight._qkv and linear_qkv.weight._gate together"));
  // One rank: the fused tensor says everything.
  expect_same(from_checkpoint_keys(whole, heads), whole);
}

TEST(MegatronShards, ShardsMustAgreeAndBeComplete) {
  const QkvHeads heads{4, 2, 2, GateKind::kNone};
  const AttentionTensors whole = numbered(heads);
  std::vector<AttentionTensors> shards = {attention_shard(whole, heads, {2, 0}),
                                          attention_shard(whole, heads, {2, 1})};
  shards[1]["q_layernorm.weight"] = shards[1]["q_layernorm.weight"] + 0.5;
  EXPECT_THAT(message_of<CheckpointError>([&] { attention_whole(shards, heads); }),
              HasSubstr("q_layernorm.weight of rank 1 and rank 0: allowed equal tensors; got a "
                        "largest difference of 0.5"));
  shards[1].erase("q_layernorm.weight");
  EXPECT_THAT(message_of<CheckpointError>([&] { attention_whole(shards, heads); }),
              HasSubstr("q_layernorm.weight of rank 1: missing"));
  EXPECT_THAT(message_of<ShapeError>([&] {
                attention_shard({{"linear_qkv.weight", at::zeros({15, 3})}}, heads, {2, 0});
              }),
              HasSubstr("linear_qkv.weight = 15 rows of 3, allowed 16 rows"));
  EXPECT_THAT(message_of<ShapeError>([&] {
                attention_shard({{"linear_proj.weight", at::zeros({3, 9})}}, heads, {2, 0});
              }),
              HasSubstr("linear_proj.weight = 3 rows of 9, allowed 8 columns"));
  EXPECT_THAT(message_of<ShapeError>([&] {
                attention_shard({{"mlp.linear_fc1.weight", at::zeros({3, 9})}}, heads, {2, 0});
              }),
              HasSubstr("tensor = mlp.linear_fc1.weight, allowed linear_qkv.*"));
  const AttentionTensors extra = {{"core_attention._extra_state", at::zeros({1})}};
  EXPECT_TRUE(attention_shard(extra, heads, {2, 0}).empty());
}

TEST(MegatronShards, CutsThatDoNotFitAreRefused) {
  const auto refused = [](const QkvHeads& heads, int64_t ranks) {
    return message_of<ConfigError>([&] { qkv_row_segments(heads, {ranks, 0}); });
  };
  EXPECT_THAT(refused({6, 3, 2, GateKind::kNone}, 4),
              HasSubstr("num_attention_heads = 6, num_query_groups = 3, "
                        "tensor_model_parallel_size = 4: ranks must divide heads"));
  EXPECT_THAT(refused({6, 4, 2, GateKind::kNone}, 2), HasSubstr("groups must divide heads"));
  EXPECT_THAT(refused({12, 2, 2, GateKind::kNone}, 3),
              HasSubstr("groups must be a multiple or divisor of ranks"));
  EXPECT_THAT(refused({8, 2, 2, GateKind::kHeadWise}, 4),
              HasSubstr("head-wise gates need at least as many groups as ranks"));
  EXPECT_THAT(refused({4, 1, 1, GateKind::kNone}, 4), HasSubstr("6 rows of linear_qkv do not"));
  EXPECT_THAT(refused({4, 2, 0, GateKind::kNone}, 1), HasSubstr("allowed numbers in [1, 1048576]"));
  EXPECT_THAT(message_of<ConfigError>([] {
                qkv_row_segments({4, 2, 1, GateKind::kNone}, {2, 2});
              }),
              HasSubstr("rank 2 is not one of them"));
}

}  // namespace
}  // namespace headway::io
