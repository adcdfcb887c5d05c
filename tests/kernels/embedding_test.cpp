// Every embedding kernel against scalar loops, forward and backward.
#include "headway/ops/embedding.h"

#include <ATen/Functions.h>
#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "headway/base/error.h"
#include "headway/ops/kernel_table.h"

#include "tests/support/naive_head.h"
#include "tests/support/tensors.h"
#include "tests/support/tolerance.h"

namespace headway::ops {
namespace {

using test::close;

struct Case {
  int64_t tokens, vocabulary, width;
  double scale = 1.0;
  int64_t padding_id = -1;
};

const Case kCases[] = {{1, 1, 1},         {7, 5, 3, 2.5},       {64, 9, 33, 16.0, 4},
                       {0, 6, 4, 1.0, 0}, {130, 1000, 64, 0.5}, {50, 300000, 8, 1.0, 299999}};

class EmbeddingKernel
    : public testing::TestWithParam<std::tuple<std::string, at::ScalarType, Case>> {};

TEST_P(EmbeddingKernel, AgreesWithScalarLoops) {
  const auto& [kernel, type, c] = GetParam();
  ScopedKernel forced("embedding", kernel);
  const at::Tensor ids = test::integer_tensor({c.tokens}, 0, c.vocabulary, 3);
  at::Tensor table = test::normal_tensor({c.vocabulary, c.width}, type, 1).requires_grad_();
  const at::Tensor d_out = test::normal_tensor({c.tokens, c.width}, type, 2);
  const at::Tensor out = ops::embedding(ids, table, c.scale, c.padding_id);
  out.backward(d_out);
  const auto id_list = test::to_integers(ids);
  const auto want = test::naive_embedding(id_list, test::to_matrix(table), c.scale);
  const auto want_grad = test::naive_embedding_gradient(id_list, test::to_matrix(d_out),
                                                        c.vocabulary, c.scale, c.padding_id);
  EXPECT_EQ(out.scalar_type(), type);
  EXPECT_TRUE(close(out, test::from_matrix(want), test::tolerance(type, 1)));
  EXPECT_TRUE(close(table.grad(), test::from_matrix(want_grad), test::tolerance(type, 16)));
}

INSTANTIATE_TEST_SUITE_P(All, EmbeddingKernel,
                         testing::Combine(testing::Values("cpu", "reference"),
                                          testing::Values(at::kFloat, at::kDouble, at::kBFloat16,
                                                          at::kHalf),
                                          testing::ValuesIn(kCases)));

TEST(Embedding, GradientBitsDoNotDependOnThreads) {
  const at::Tensor ids = test::integer_tensor({3000}, 0, 40, 5);
  const at::Tensor d_out = test::normal_tensor({3000, 65}, at::kFloat, 6);
  const int threads = at::get_num_threads();
  std::vector<at::Tensor> grads;
  for (const int count : {1, 2, 3}) {
    at::set_num_threads(count);
    at::Tensor table = at::zeros({40, 65}).requires_grad_();
    ops::embedding(ids, table).backward(d_out);
    grads.push_back(table.grad());
  }
  at::set_num_threads(threads);
  EXPECT_TRUE(test::same_bits(grads[1], grads[0]));
  EXPECT_TRUE(test::same_bits(grads[2], grads[0]));
}

TEST(Embedding, RowSparseGradientHoldsTheRowsOfTheDenseOne) {
  for (const at::ScalarType type : {at::kFloat, at::kDouble, at::kBFloat16}) {
    const at::Tensor ids = test::integer_tensor({60}, 0, 40, 5);
    const at::Tensor d_out = test::normal_tensor({60, 9}, type, 6);
    const auto gradient = [&](bool sparse) {
      at::Tensor table = test::normal_tensor({90, 9}, type, 1).requires_grad_();
      const at::Tensor y = sparse ? ops::row_sparse_embedding(ids, table, 1.5, 7)
                                  : ops::embedding(ids, table, 1.5, 7);
      y.backward(d_out);
      return table.grad();
    };
    const at::Tensor rows = gradient(true);
    ASSERT_TRUE(rows.is_sparse());
    EXPECT_TRUE(test::same_bits(rows.to_dense(), gradient(false)));
    const at::Tensor named = rows._indices()[0];
    EXPECT_TRUE((named.slice(0, 1) > named.slice(0, 0, -1)).all().item<bool>());
    EXPECT_FALSE(named.eq(7).any().item<bool>());  // the padding row
  }
}

TEST(Embedding, RecordsNothingWithoutGradients) {
  at::Tensor table = test::normal_tensor({5, 4}, at::kFloat, 1).requires_grad_();
  const at::Tensor ids = test::integer_tensor({3}, 0, 5, 2);
  EXPECT_TRUE(ops::embedding(ids, table).requires_grad());
  at::NoGradGuard off;
  EXPECT_FALSE(ops::embedding(ids, table).requires_grad());
}

std::string error_of(const at::Tensor& ids, const at::Tensor& table, int64_t padding_id = -1) {
  try {
    ops::embedding(ids, table, 1.0, padding_id);
  } catch (const ShapeError& error) {
    return error.what();
  }
  return "no error";
}

TEST(Embedding, NamesWhatIsWrong) {
  using testing::HasSubstr;
  const at::Tensor table = at::zeros({5, 4});
  const at::Tensor ids = test::integer_tensor({3}, 0, 5, 2);
  at::Tensor high = ids.clone(), low = ids.clone();
  high[2] = 5;
  low[1] = -1;
  EXPECT_THAT(error_of(high, table), HasSubstr("[embedding] ids[2] = 5, allowed 0 .. 4"));
  EXPECT_THAT(error_of(low, table), HasSubstr("ids[1] = -1, allowed 0 .. 4"));
  EXPECT_THAT(error_of(ids.to(at::kInt), table), HasSubstr("ids = Int, allowed int64"));
  EXPECT_THAT(error_of(ids.unsqueeze(0), table), HasSubstr("ids = [1, 3], allowed [T]"));
  EXPECT_THAT(error_of(ids, table[0]), HasSubstr("table = [4], allowed [V,D]"));
  EXPECT_THAT(error_of(ids, table.to(at::kLong)), HasSubstr("table = Long, allowed float32"));
  EXPECT_THAT(error_of(ids, at::Tensor()), HasSubstr("table = undefined"));
  EXPECT_THAT(error_of(ids, table, 5), HasSubstr("padding_id = 5, allowed -1 (off) .. 4"));
}

}  // namespace
}  // namespace headway::ops
