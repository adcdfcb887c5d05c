// Paged attention: reference against scalar loops, every kernel and Highway target against the
// reference, with shuffled pages and NaN wherever nobody may read. Not for: argument errors
// (tests/unit/ops).
#include "headway/ops/paged_attention.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <ostream>
#include <random>
#include <string>
#include <vector>

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>

#include "headway/ops/kernel_table.h"

#include "tests/support/naive_attention.h"
#include "tests/support/tensors.h"
#include "tests/support/tolerance.h"

namespace headway::test {
namespace {

struct Case {
  std::string name;
  int64_t block;
  std::vector<int64_t> q_lengths;
  std::vector<int64_t> k_lengths;
  int64_t heads = 4, groups = 2, key_dim = 32, value_dim = 32;
  ops::AttentionOptions options{};
  bool sinks = false;
};

void PrintTo(const Case& c, std::ostream* out) { *out << c.name; }

ops::AttentionOptions rule(int64_t left, double softcap = 0, int64_t right = 0) {
  ops::AttentionOptions options;
  options.scale = 0.3;  // not 1/sqrt(dim): a kernel with a scale of its own would show
  options.rule = {left, right};
  options.softcap = softcap;
  return options;
}

std::vector<Case> cases() {
  std::vector<Case> list;
  const std::vector<int64_t> q{1, 1, 1, 1, 2, 300}, k{1, 37, 256, 1, 2, 300};
  for (const int64_t block : {1, 4, 16, 64, 256}) {
    list.push_back({"mixed_block" + std::to_string(block), block, q, k, 4, 2, 32, 32, rule(-1)});
    list.push_back({"window_block" + std::to_string(block),
                    block,
                    {1, 3, 60, 1},
                    {700, 90, 100, 9},
                    4,
                    1,
                    32,
                    32,
                    rule(40),
                    true});
  }
  list.push_back({"decode_only", 16, {1, 1, 1}, {16, 17, 1300}, 8, 2, 64, 64, rule(-1)});
  list.push_back({"decode_mha", 32, {1, 1}, {5, 600}, 3, 3, 128, 128, rule(-1), true});
  list.push_back({"speculative", 8, {3, 3}, {10, 41}, 4, 2, 64, 64, rule(-1)});
  list.push_back({"chunk", 16, {100, 31}, {250, 31}, 4, 2, 32, 32, rule(-1), true});
  list.push_back({"odd_dims", 12, {1, 40, 2}, {75, 90, 13}, 6, 2, 19, 45, rule(-1, 3.0), true});
  list.push_back({"odd_window", 5, {1, 7}, {75, 90}, 7, 1, 17, 24, rule(9, 2.0), true});
  list.push_back({"window1", 16, {1, 30}, {75, 64}, 4, 2, 32, 32, rule(0)});
  list.push_back({"idle_sequences", 16, {0, 1, 0}, {75, 64, 0}, 4, 2, 32, 32, rule(-1)});
  list.push_back({"no_keys", 16, {5, 1}, {0, 3}, 4, 2, 32, 32, rule(-1), true});
  list.push_back({"more_queries", 16, {50, 6}, {20, 3}, 4, 2, 32, 32, rule(-1)});
  list.push_back({"unmasked", 16, {20, 1}, {33, 18}, 4, 2, 32, 32, rule(-1, 0, -1)});
  return list;
}

std::vector<int64_t> boundaries(const std::vector<int64_t>& lengths) {
  std::vector<int64_t> cu{0};
  for (const int64_t length : lengths) cu.push_back(cu.back() + length);
  return cu;
}

struct Inputs {
  at::Tensor q, k, v, sinks;  // k and v side by side
  ops::PagedKeys pages;
  ops::Sequences sequences;
};

/// Rows that no query of the sequence may see.
int64_t hidden_rows(const Case& c, size_t n) {
  if (c.q_lengths[n] == 0) return c.k_lengths[n];
  if (c.options.rule.left < 0) return 0;
  return std::max<int64_t>(0, c.k_lengths[n] - c.q_lengths[n] - c.options.rule.left);
}

/// Page ids in an order of their own, all rows NaN but those a query may see, no entry for pages
/// without any.
void fill_pages(const Case& c, Inputs& in, at::ScalarType type) {
  const auto sequences = static_cast<int64_t>(c.k_lengths.size());
  int64_t most = 0, used = 0;
  for (const int64_t length : c.k_lengths) {
    most = std::max(most, (length + c.block - 1) / c.block);
    used += (length + c.block - 1) / c.block;
  }
  const int64_t pages = used + 3;
  std::vector<int32_t> ids(pages);
  std::iota(ids.begin(), ids.end(), 0);
  std::mt19937 random(7);
  std::shuffle(ids.begin(), ids.end(), random);
  in.pages.block_table_NM = at::full({sequences, most}, -1, at::kInt);
  in.pages.k_PBGK = at::full({pages, c.block, c.groups, c.key_dim}, NAN, type);
  in.pages.v_PBGV = at::full({pages, c.block, c.groups, c.value_dim}, NAN, type);
  std::vector<int64_t> slots;
  for (size_t n = 0; n < c.k_lengths.size(); ++n) {
    for (int64_t j = 0; j < c.k_lengths[n]; ++j) {
      if (j < hidden_rows(c, n)) {
        slots.push_back(-1);
        continue;
      }
      auto entry = in.pages.block_table_NM[n][j / c.block];
      if (entry.item<int32_t>() < 0) {
        entry.fill_(ids.back());
        ids.pop_back();
      }
      slots.push_back(entry.item<int32_t>() * c.block + j % c.block);
    }
  }
  const at::Tensor where = at::tensor(slots, at::kLong);
  ops::store_pages(in.pages.k_PBGK, in.k, where);
  ops::store_pages(in.pages.v_PBGV, in.v, where);
}

Inputs make_inputs(const Case& c, at::ScalarType type) {
  Inputs in;
  in.sequences.cu_q = boundaries(c.q_lengths);
  in.sequences.cu_k = boundaries(c.k_lengths);
  const int64_t tokens = in.sequences.cu_q.back(), keys = in.sequences.cu_k.back();
  in.q = normal_tensor({tokens, c.heads, c.key_dim}, type, 1);
  in.k = normal_tensor({keys, c.groups, c.key_dim}, type, 2);
  in.v = normal_tensor({keys, c.groups, c.value_dim}, type, 3);
  if (c.sinks) in.sinks = normal_tensor({c.heads}, type, 5) * 3;
  fill_pages(c, in, type);
  return in;
}

at::Tensor run(const Inputs& in, const ops::AttentionOptions& options) {
  return ops::paged_attention(in.q, in.pages, in.sinks, in.sequences, options);
}

double bound_for(const Case& c, at::ScalarType type) {
  return tolerance(type, *std::max_element(c.k_lengths.begin(), c.k_lengths.end()) + c.key_dim + 1);
}

class PagedAttentionCase : public testing::TestWithParam<Case> {};

TEST_P(PagedAttentionCase, ReferenceMatchesScalarLoops) {
  const Case& c = GetParam();
  const Inputs in = make_inputs(c, at::kDouble);
  const ops::ScopedKernel force("paged_attention", "reference");
  const at::Tensor d_out =
      at::zeros({in.q.size(0), c.heads, c.value_dim}, at::TensorOptions().dtype(at::kDouble));
  const auto want = naive_attention(in.q, in.k, in.v, in.sinks, d_out, in.sequences, c.options);
  const double bound = bound_for(c, at::kDouble);
  EXPECT_TRUE(close(run(in, c.options), want.out, bound, bound));
}

TEST_P(PagedAttentionCase, EveryTargetMatchesScalarLoops) {
  const Case& c = GetParam();
  for (const at::ScalarType type : {at::kFloat, at::kBFloat16, at::kHalf}) {
    const Inputs in = make_inputs(c, type);
    const at::Tensor d_out =
        at::zeros({in.q.size(0), c.heads, c.value_dim}, at::TensorOptions().dtype(at::kDouble));
    const auto want = naive_attention(in.q, in.k, in.v, in.sinks, d_out, in.sequences, c.options);
    const double bound = bound_for(c, type);
    for (const std::string& target : ops::supported_targets()) {
      SCOPED_TRACE("cpu@" + target + " in " + c10::toString(type));
      const ops::ScopedKernel force("paged_attention", "cpu", target);
      EXPECT_TRUE(close(run(in, c.options).to(at::kDouble), want.out, bound, bound));
    }
  }
}

TEST_P(PagedAttentionCase, ASequenceDoesNotKnowItsNeighbours) {
  const Case& c = GetParam();
  const Inputs in = make_inputs(c, at::kFloat);
  const at::Tensor together = run(in, c.options);
  EXPECT_TRUE(same_bits(together, run(in, c.options)));
  for (size_t n = 0; n < c.q_lengths.size(); ++n) {
    Inputs alone = in;
    const int64_t first = in.sequences.cu_q[n];
    alone.q = in.q.narrow(0, first, c.q_lengths[n]);
    alone.sequences.cu_q = {0, c.q_lengths[n]};
    alone.sequences.cu_k = {0, c.k_lengths[n]};
    alone.pages.block_table_NM =
        in.pages.block_table_NM.narrow(0, static_cast<int64_t>(n), 1).contiguous();
    EXPECT_TRUE(same_bits(run(alone, c.options), together.narrow(0, first, c.q_lengths[n]))) << n;
  }
}

INSTANTIATE_TEST_SUITE_P(Grid, PagedAttentionCase, testing::ValuesIn(cases()),
                         [](const auto& info) { return info.param.name; });

TEST(PagedAttentionKernel, ABatchOfRowsIsOnePageASequence) {
  // A cache [rows, batch, G, K] read where it lies.
  Case c{"", 9, {2, 2, 2}, {9, 9, 9}, 4, 2, 32, 32, rule(-1)};
  const Inputs in = make_inputs(c, at::kFloat);
  Inputs strided = in;
  const auto cache = [](const at::Tensor& x) {
    return x.unflatten(0, {3, 9}).transpose(0, 1).contiguous().transpose(0, 1);
  };
  strided.pages = {cache(in.k), cache(in.v), at::arange(3, at::kInt).unsqueeze(1)};
  EXPECT_EQ(strided.pages.k_PBGK.stride(0), 2 * 32);
  EXPECT_TRUE(same_bits(run(strided, c.options), run(in, c.options)));
}

TEST(PagedAttentionKernel, StoredRowsComeBackAndNegativeSlotsAreDropped) {
  for (const at::ScalarType type : {at::kDouble, at::kFloat, at::kBFloat16, at::kHalf}) {
    const at::Tensor pages = at::full({3, 4, 2, 5}, -7, type);
    const at::Tensor fused = normal_tensor({3, 6, 5}, type, 4);
    const at::Tensor x = fused.narrow(1, 2, 2);  // a view of a fused projection
    ops::store_pages(pages, x, at::tensor({9, -1, 3}, at::kLong));
    EXPECT_TRUE(at::equal(pages[2][1], x[0]));
    EXPECT_TRUE(at::equal(pages[0][3], x[2]));
    EXPECT_EQ(pages.eq(-7).sum().item<int64_t>(), 3 * 4 * 2 * 5 - 2 * 2 * 5);
    const at::Tensor table = at::tensor({0, 2}, at::kInt).unsqueeze(0);
    EXPECT_TRUE(at::equal(ops::gather_pages(pages, table, {{0, 3, 6}}),
                          at::stack({pages[0][3], pages[2][0], pages[2][1]})));
  }
}

}  // namespace
}  // namespace headway::test
