// Row order of linear_kv: every row of a numbered matrix lands where the formula says.
#include "headway/io/megatron_cross_attention.h"

#include <ATen/Functions.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "headway/base/error.h"

namespace headway::io {
namespace {

spec::CrossAttentionSpec heads(int64_t num_heads, int64_t head_dim, int64_t v_head_dim) {
  spec::CrossAttentionSpec spec;
  spec.num_heads = num_heads;
  spec.head_dim = head_dim;
  spec.v_head_dim = v_head_dim;
  return spec;
}

TEST(MegatronCross, KeysAndValuesInterleavePerHead) {
  const auto spec = heads(3, 4, 2);
  const at::Tensor numbered = at::arange(3 * (4 + 2), at::kDouble);
  const at::Tensor ours = kv_from_megatron(numbered, spec);
  for (int64_t j = 0; j < 3; ++j) {
    for (int64_t c = 0; c < 4; ++c) EXPECT_EQ(ours[j * 4 + c].item<double>(), j * 6 + c);
    for (int64_t c = 0; c < 2; ++c) EXPECT_EQ(ours[12 + j * 2 + c].item<double>(), j * 6 + 4 + c);
  }
}

TEST(MegatronCross, TheWayBackIsTheInverse) {
  for (const int64_t num_heads : {1, 2, 5}) {
    for (const auto& [k, v] : {std::pair<int64_t, int64_t>{8, 8}, {3, 7}}) {
      const auto spec = heads(num_heads, k, v);
      const at::Tensor matrix =
          at::arange(num_heads * (k + v) * 5, at::kFloat).view({num_heads * (k + v), 5});
      EXPECT_TRUE(at::equal(kv_to_megatron(kv_from_megatron(matrix, spec), spec), matrix));
      const at::Tensor bias = at::arange(num_heads * (k + v), at::kFloat);
      EXPECT_TRUE(at::equal(kv_from_megatron(kv_to_megatron(bias, spec), spec), bias));
    }
  }
}

TEST(MegatronCross, NamesAndErrors) {
  EXPECT_EQ(megatron_cross_name("q.weight"), "linear_q.weight");
  EXPECT_EQ(megatron_cross_name("kv.bias"), "linear_kv.bias");
  EXPECT_EQ(megatron_cross_name("out.weight"), "linear_proj.weight");
  EXPECT_EQ(megatron_cross_name("sinks"), "core_attention.softmax_offset");
  EXPECT_THROW(megatron_cross_name("qkv.weight"), InternalError);
  try {
    kv_from_megatron(at::zeros({17, 5}), heads(3, 4, 2));
    ADD_FAILURE();
  } catch (const ShapeError& error) {
    EXPECT_THAT(error.what(), testing::HasSubstr("rows of linear_kv = 17, allowed 18"));
  }
}

}  // namespace
}  // namespace headway::io
