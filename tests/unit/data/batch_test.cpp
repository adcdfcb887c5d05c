// Batches: samples end to end as tensors.
// Not for: what is in a sample (packing_test.cpp).
#include "headway/data/batch.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "headway/base/error.h"

namespace headway::data {
namespace {

using testing::ElementsAre;

std::vector<std::int64_t> values(const at::Tensor& tensor) {
  const auto* first = tensor.data_ptr<std::int64_t>();
  return {first, first + tensor.numel()};
}

PackedSamples ten_tokens() {
  const auto store = TokenStore::in_memory({{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}, {3, 5, 10}, 10});
  return PackedSamples(store, {0, 10}, {4, false}, LastSample::kShort);
}

TEST(Batch, SamplesEndToEnd) {
  const Batch batch = make_batch(ten_tokens(), std::vector<std::int64_t>{2, 0});
  EXPECT_EQ(batch.input_ids.scalar_type(), at::kLong);
  EXPECT_THAT(values(batch.input_ids), ElementsAre(8, 9, 0, 1, 2, 3));
  EXPECT_THAT(values(batch.labels), ElementsAre(9, -100, 1, 2, -100, 4));
  EXPECT_THAT(batch.cu_seqlens, ElementsAre(0, 2, 5, 6));
  EXPECT_EQ(batch.max_len, 3);
  EXPECT_EQ(batch.label_count, 4);
  EXPECT_EQ(batch.num_tokens(), 6);
}

TEST(Batch, SequentialBatchesStopAtTheEnd) {
  const PackedSamples samples = ten_tokens();
  EXPECT_THAT(values(make_sequential_batch(samples, 0, 2).input_ids),
              ElementsAre(0, 1, 2, 3, 4, 5, 6, 7));
  EXPECT_THAT(values(make_sequential_batch(samples, 2, 2).input_ids), ElementsAre(8, 9));
  EXPECT_THROW(make_sequential_batch(samples, 3, 2), InternalError);
}

}  // namespace
}  // namespace headway::data
