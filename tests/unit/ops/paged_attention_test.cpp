// Argument checks of paged attention and of the moves in and out of pages.
// Not for: numbers (tests/kernels).
#include "headway/ops/paged_attention.h"

#include <cmath>
#include <string>
#include <vector>

#include <ATen/Functions.h>
#include <ATen/core/grad_mode.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "headway/base/error.h"
#include "headway/ops/kernel_table.h"

namespace headway::ops {
namespace {

using testing::HasSubstr;

/// Two sequences of 5 and 3 keys with one query each, in pages of 4.
struct Arguments {
  at::Tensor q = at::zeros({2, 4, 8});
  PagedKeys keys{at::zeros({6, 4, 2, 8}), at::zeros({6, 4, 2, 5}),
                 at::tensor({3, 1, 0, -1}, at::kInt).view({2, 2})};
  at::Tensor sinks;
  Sequences sequences = continued_sequences({4, 2}, {1, 1});
  AttentionOptions options;
};

template <class E>
std::string error_of(const Arguments& a) {
  try {
    paged_attention(a.q, a.keys, a.sinks, a.sequences, a.options);
  } catch (const E& error) {
    return error.what();
  }
  return "no error";
}

template <class Change>
std::string shape_error(Change change) {
  Arguments a;
  change(a);
  return error_of<ShapeError>(a);
}

TEST(PagedAttentionArguments, AcceptedAndShaped) {
  const Arguments a;
  EXPECT_EQ(paged_attention(a.q, a.keys, a.sinks, a.sequences, a.options).sizes(),
            (std::vector<int64_t>{2, 4, 5}));
}

TEST(PagedAttentionArguments, Tensors) {
  EXPECT_EQ(shape_error([](Arguments& a) { a.q = at::Tensor(); }),
            "[paged_attention] q = undefined, allowed a tensor");
  EXPECT_THAT(shape_error([](Arguments& a) { a.q = at::zeros({2, 32}); }),
              HasSubstr("q = [2, 32], allowed 3 dimensions"));
  EXPECT_THAT(shape_error([](Arguments& a) { a.q = at::zeros({2, 4, 8}, at::kInt); }),
              HasSubstr("allowed float32, float64, bfloat16 or float16"));
  EXPECT_THAT(shape_error([](Arguments& a) { a.keys.k_PBGK = at::zeros({6, 4, 16}); }),
              HasSubstr("k = [6, 4, 16], allowed 4 dimensions"));
  EXPECT_THAT(shape_error([](Arguments& a) { a.keys.k_PBGK = at::zeros({0, 4, 2, 8}); }),
              HasSubstr("at least one page and row"));
  EXPECT_THAT(shape_error([](Arguments& a) { a.keys.k_PBGK = at::zeros({6, 4, 2, 7}); }),
              HasSubstr("head dim 8"));
  EXPECT_THAT(shape_error([](Arguments& a) { a.keys.k_PBGK = at::zeros({6, 4, 3, 8}); }),
              HasSubstr("heads that divide the 4 of q"));
  EXPECT_THAT(shape_error([](Arguments& a) { a.keys.v_PBGV = at::zeros({6, 3, 2, 5}); }),
              HasSubstr("v = [6, 3, 2, 5], allowed pages, rows and heads of k"));
  EXPECT_THAT(shape_error([](Arguments& a) { a.keys.v_PBGV = a.keys.v_PBGV.to(at::kDouble); }),
              HasSubstr("v = Double on cpu, allowed Float on cpu"));
  EXPECT_THAT(shape_error([](Arguments& a) {
                a.keys.k_PBGK = at::zeros({6, 4, 8, 2}).transpose(2, 3);
              }),
              HasSubstr("contiguous last dimension"));
  EXPECT_THAT(shape_error([](Arguments& a) { a.sinks = at::zeros({3}); }),
              HasSubstr("sinks = [3], allowed a floating [4]"));
}

TEST(PagedAttentionArguments, TableAndSequences) {
  EXPECT_THAT(shape_error([](Arguments& a) { a.keys.block_table_NM = at::Tensor(); }),
              HasSubstr("block_table = undefined, allowed contiguous int32"));
  EXPECT_THAT(shape_error([](Arguments& a) {
                a.keys.block_table_NM = a.keys.block_table_NM.to(at::kLong);
              }),
              HasSubstr("allowed contiguous int32 [sequences, entries] on the CPU"));
  EXPECT_THAT(shape_error([](Arguments& a) {
                a.keys.block_table_NM = at::zeros({3, 2}, at::kInt);
              }),
              HasSubstr("block_table = [3, 2], allowed 2 rows, one a sequence"));
  EXPECT_THAT(shape_error([](Arguments& a) {
                a.keys.block_table_NM = at::zeros({2, 1}, at::kInt);
              }),
              HasSubstr("entries for row 4 of sequence 0 in pages of 4"));
  EXPECT_THAT(shape_error([](Arguments& a) { a.keys.block_table_NM[0][1] = -1; }),
              HasSubstr("block_table = -1, allowed 0 to 5 where keys are visible (sequence 0, "
                        "entry 1)"));
  EXPECT_THAT(shape_error([](Arguments& a) { a.keys.block_table_NM[1][0] = 6; }),
              HasSubstr("block_table = 6, allowed 0 to 5"));
  EXPECT_THAT(shape_error([](Arguments& a) { a.sequences.cu_q.back() = 3; }),
              HasSubstr("sequences.cu_q"));
  // Behind the window there need be no page.
  Arguments a;
  a.keys.block_table_NM[0][0] = -1;
  a.options.rule.left = 0;
  EXPECT_EQ(error_of<ShapeError>(a), "no error");
}

TEST(PagedAttentionArguments, Options) {
  const auto error = [](auto change) {
    Arguments a;
    change(a.options);
    return error_of<ConfigError>(a);
  };
  EXPECT_THAT(error([](AttentionOptions& o) { o.scale = NAN; }), HasSubstr("options.scale = nan"));
  EXPECT_THAT(error([](AttentionOptions& o) { o.softcap = -1; }),
              HasSubstr("options.softcap = -1"));
  EXPECT_THAT(error([](AttentionOptions& o) { o.rule.left = -2; }), HasSubstr("rule.left = -2"));
  EXPECT_THAT(error([](AttentionOptions& o) { o.rule.right = -2; }), HasSubstr("rule.right = -2"));
}

TEST(PagedAttentionArguments, OptionsOfTrainingAreRefused) {
  const auto error = [](auto change) {
    Arguments a;
    change(a.options);
    return error_of<UnsupportedError>(a);
  };
  EXPECT_THAT(error([](AttentionOptions& o) { o.dropout.probability = 0.1; }),
              HasSubstr("not through pages"));
  EXPECT_THAT(error([](AttentionOptions& o) { o.mask = at::zeros({1, 1}, at::kBool); }),
              HasSubstr("not through pages"));
  EXPECT_THAT(error([](AttentionOptions& o) { o.bias = at::zeros({1, 1}); }),
              HasSubstr("not through pages"));
}

TEST(PagedAttentionArguments, NoGradients) {
  Arguments a;
  a.q.requires_grad_();
  EXPECT_THAT(error_of<UnsupportedError>(a), HasSubstr("at::NoGradGuard"));
  const at::NoGradGuard no_grad;
  EXPECT_EQ(error_of<UnsupportedError>(a), "no error");
}

TEST(PagedAttentionArguments, ForcedKernelThatCannotRun) {
  Arguments a;
  a.q = a.q.to(at::kDouble);
  a.keys.k_PBGK = a.keys.k_PBGK.to(at::kDouble);
  a.keys.v_PBGV = a.keys.v_PBGV.to(at::kDouble);
  EXPECT_EQ(error_of<UnsupportedError>(a), "no error");
  const ScopedKernel force("paged_attention", "cpu");
  EXPECT_THAT(error_of<UnsupportedError>(a), HasSubstr("float64 is computed by the reference"));
}

template <class Body>
std::string message_of(Body body) {
  try {
    body();
  } catch (const ShapeError& error) {
    return error.what();
  }
  return "no error";
}

TEST(PagedAttentionArguments, StoreAndGather) {
  const at::Tensor pages = at::zeros({3, 4, 2, 5}), x = at::zeros({2, 2, 5});
  const at::Tensor slots = at::tensor({0, 11}, at::kLong);
  EXPECT_EQ(message_of([&] { store_pages(pages, x, slots); }), "no error");
  EXPECT_THAT(message_of([&] { store_pages(pages, at::zeros({2, 2, 4}), slots); }),
              HasSubstr("[store_pages] x = [2, 2, 4], allowed the heads and channels of pages"));
  EXPECT_THAT(message_of([&] { store_pages(pages, x, at::tensor({0, 12}, at::kLong)); }),
              HasSubstr("slots = 12, allowed below 12 rows"));
  EXPECT_THAT(message_of([&] { store_pages(pages, x, at::tensor({0}, at::kLong)); }),
              HasSubstr("slots = [1], allowed contiguous int64 [2]"));
  EXPECT_THAT(message_of([&] { store_pages(pages, x.to(at::kDouble), slots); }),
              HasSubstr("x = Double"));
  const at::Tensor table = at::tensor({0, -1}, at::kInt).view({1, 2});
  EXPECT_EQ(message_of([&] { gather_pages(pages, table, {{0, 1, 4}}); }), "no error");
  EXPECT_THAT(message_of([&] { gather_pages(pages, table, {{0, 1, 5}}); }),
              HasSubstr("[gather_pages] block_table = -1"));
  EXPECT_THAT(message_of([&] { gather_pages(pages, table, {{1, 0, 1}}); }),
              HasSubstr("block_table"));
  EXPECT_THAT(message_of([&] { gather_pages(pages, table, {{0, 0, 9}}); }),
              HasSubstr("entries for row 8"));
}

}  // namespace
}  // namespace headway::ops
