// Argument checks, kernel table and both kernels of the largest attention logit.
// Not for: gradients; there are none.
// Legend: H query heads, G kv heads, m = H/G query heads of one kv head, K head dim.
#include "headway/ops/attention_max_logit.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>

#include "headway/ops/internal/arguments.h"
#include "headway/ops/internal/attention_kernel.h"
#include "headway/ops/internal/tasks.h"
#include "headway/ops/kernel_table.h"

namespace headway::ops {
namespace {

constexpr char kOp[] = "attention_max_logit";
constexpr float kMinusInfinity = -std::numeric_limits<float>::infinity();
constexpr int64_t kBlockRows = 256;  // queries x heads of a kv head
constexpr int64_t kTileKeys = 1024;

struct Arguments {
  const at::Tensor& q;
  const at::Tensor& k;
  const std::vector<int64_t>& cu_q;
  const std::vector<int64_t>& cu_k;
  const AttentionOptions& options;

  int64_t num_groups() const { return k.size(1); }
  int64_t group_heads() const { return q.size(1) / k.size(1); }
};

/// Queries [first, first + count) of one sequence, all m heads of kv head `group`.
struct Block {
  int64_t sequence;
  int64_t q0, sq, k0, sk;
  int64_t first, count;
  int64_t group;
};

std::vector<Block> make_blocks(const Arguments& a, int64_t tokens) {
  std::vector<Block> blocks;
  for (size_t n = 0; n + 1 < a.cu_q.size(); ++n) {
    const int64_t q0 = a.cu_q[n], sq = a.cu_q[n + 1] - q0;
    const int64_t k0 = a.cu_k[n], sk = a.cu_k[n + 1] - k0;
    for (int64_t group = 0; sk > 0 && group < a.num_groups(); ++group) {
      for (int64_t first = 0; first < sq; first += tokens) {
        blocks.push_back(
            {static_cast<int64_t>(n), q0, sq, k0, sk, first, std::min(tokens, sq - first), group});
      }
    }
  }
  return blocks;
}

/// Scaled queries of a block, one row a query and head: [count·m, K].
at::Tensor block_queries(const Arguments& a, const Block& block, at::ScalarType type) {
  const int64_t m = a.group_heads();
  const at::Tensor rows =
      a.q.narrow(0, block.q0 + block.first, block.count).narrow(1, block.group * m, m);
  return (rows.to(type) * a.options.scale).reshape({block.count * m, a.q.size(2)});
}

/// Hides the keys of a tile, which begins at key `first`, from the queries that do not see them.
void hide(const Arguments& a, const Block& block, int64_t first, at::Tensor& scores) {
  const int64_t m = a.group_heads(), count = scores.size(1);
  float* row = scores.data_ptr<float>();
  for (int64_t i = 0; i < block.count; ++i) {
    const internal::KeyRange visible =
        internal::visible_keys(a.options.rule, block.first + i, block.sq, block.sk);
    const int64_t begin = std::clamp<int64_t>(visible.first - first, 0, count);
    const int64_t end = std::clamp<int64_t>(visible.last - first, begin, count);
    for (int64_t h = 0; h < m; ++h, row += count) {
      std::fill(row, row + begin, kMinusInfinity);
      std::fill(row + end, row + count, kMinusInfinity);
    }
  }
}

/// Maximum of every head of a block: [m] floats.
void block_max(const Arguments& a, const Block& block, float* out) {
  const at::NoGradGuard no_grad;  // worker threads have their own mode
  const int64_t m = a.group_heads();
  const at::Tensor queries = block_queries(a, block, at::kFloat);
  const int64_t last_query = block.first + block.count - 1;
  const int64_t begin =
      internal::visible_keys(a.options.rule, block.first, block.sq, block.sk).first;
  const int64_t end = internal::visible_keys(a.options.rule, last_query, block.sq, block.sk).last;
  at::Tensor best = at::full({m}, kMinusInfinity, at::kFloat);
  for (int64_t first = begin; first < end; first += kTileKeys) {
    const int64_t count = std::min(kTileKeys, end - first);
    const at::Tensor keys =
        a.k.narrow(0, block.k0 + first, count).select(1, block.group).to(at::kFloat);
    at::Tensor scores = at::mm(queries, keys.t());
    hide(a, block, first, scores);
    best =
        at::maximum(best, scores.view({block.count, m * count}).amax(0).view({m, count}).amax(1));
  }
  std::copy_n(best.data_ptr<float>(), m, out);
}

at::Tensor cpu_max(const Arguments& a) {
  const int64_t m = a.group_heads();
  const std::vector<Block> blocks = make_blocks(a, std::max<int64_t>(1, kBlockRows / m));
  const auto count = static_cast<int64_t>(blocks.size());
  std::vector<float> partial(static_cast<size_t>(count * m));
  internal::run_tasks(internal::num_workers(), count, [&](int64_t, int64_t task) {
    block_max(a, blocks[task], &partial[task * m]);
  });
  at::Tensor result = at::full({a.q.size(1)}, kMinusInfinity, at::kFloat);
  float* out = result.data_ptr<float>();
  for (int64_t task = 0; task < count; ++task) {
    for (int64_t h = 0; h < m; ++h) {
      float& best = out[blocks[task].group * m + h];
      const float value = partial[task * m + h];
      if (value > best || std::isnan(value)) best = std::isnan(best) ? best : value;
    }
  }
  return result;
}

/// Part of a mask that broadcasts to [N,H,max sq,max sk]: [sq or 1, m or 1, sk or 1].
at::Tensor given_mask(const Arguments& a, const Block& block) {
  const auto cut = [](const at::Tensor& x, int64_t dim, int64_t first, int64_t count) {
    return x.size(dim) == 1 ? x : x.narrow(dim, first, count);
  };
  const int64_t m = a.group_heads();
  const at::Tensor heads =
      cut(cut(a.options.mask, 0, block.sequence, 1).squeeze(0), 0, block.group * m, m);
  return cut(cut(heads, 1, 0, block.sq), 2, 0, block.sk).transpose(0, 1);
}

at::Tensor reference_max(const Arguments& a) {
  const at::ScalarType type = internal::accumulate_type(a.q);
  const int64_t m = a.group_heads();
  at::Tensor result = at::full({a.q.size(1)}, kMinusInfinity, a.q.options().dtype(type));
  for (const Block& block : make_blocks(a, std::max<int64_t>(1, a.q.size(0)))) {
    const auto whole = at::TensorOptions().dtype(at::kLong).device(a.q.device());
    const at::Tensor position = at::arange(block.sq, whole).unsqueeze(1) + (block.sk - block.sq);
    const at::Tensor key = at::arange(block.sk, whole).unsqueeze(0);
    at::Tensor hidden = at::zeros({block.sq, block.sk}, whole.dtype(at::kBool));
    const AttentionRule& rule = a.options.rule;
    if (rule.left >= 0) hidden = hidden.logical_or(key < position - rule.left);
    if (rule.right >= 0) hidden = hidden.logical_or(key > position + rule.right);
    hidden = hidden.unsqueeze(1);
    if (a.options.mask.defined()) hidden = hidden.logical_or(given_mask(a, block));
    const at::Tensor keys = a.k.narrow(0, block.k0, block.sk).select(1, block.group).to(type).t();
    const at::Tensor scores = at::mm(block_queries(a, block, type), keys)
                                  .view({block.sq, m, block.sk})
                                  .masked_fill(hidden, kMinusInfinity);
    at::Tensor heads = result.narrow(0, block.group * m, m);
    heads.copy_(at::maximum(heads, scores.amax({0, 2})));
  }
  return result;
}

struct Functions {
  at::Tensor (*forward)(const Arguments&) = nullptr;
};

Support cpu_supports(const Arguments& a) {
  if (!a.q.device().is_cpu())
    return Support::no("device " + a.q.device().str() + " is not the CPU");
  if (a.q.scalar_type() == at::kDouble)
    return Support::no("float64 is computed by the reference only");
  if (a.options.mask.defined())
    return Support::no("masks given as tensors are computed by the reference only");
  return Support::yes();
}

constexpr Kernel<Arguments, Functions> kKernels[] = {
    {"cpu", false, cpu_supports, {cpu_max}},
    {"reference", false, [](const Arguments&) { return Support::yes(); }, {reference_max}},
};

[[maybe_unused]] const bool kRegistered = register_table(kOp, kKernels);

void check_arguments(const at::Tensor& q, const at::Tensor& k, const Sequences& sequences,
                     const AttentionOptions& options) {
  internal::check_dims(kOp, "q", q, 3, "[T,H,K]");
  internal::check_floating(kOp, "q", q);
  internal::check_dims(kOp, "k", k, 3, "[S,G,K]");
  internal::check_like(kOp, "k", k, "q", q);
  if (k.size(2) != q.size(2)) {
    internal::throw_shape(kOp, "k", k.sizes(), "head dim " + std::to_string(q.size(2)) + " of q");
  }
  if (k.size(1) < 1 || q.size(1) < 1 || q.size(1) % k.size(1) != 0) {
    internal::throw_shape(
        kOp, "k", k.sizes(),
        "a number of heads that divides the " + std::to_string(q.size(1)) + " of q");
  }
  check_sequences(sequences, q.size(0), k.size(0), kOp);
  if (!std::isfinite(options.scale)) {
    throw ConfigError("[attention_max_logit] options.scale = " + std::to_string(options.scale) +
                      ", allowed a finite number");
  }
  if (options.rule.left < -1 || options.rule.right < -1) {
    throw ConfigError("[attention_max_logit] options.rule = (" + std::to_string(options.rule.left) +
                      ", " + std::to_string(options.rule.right) + "), allowed >= -1");
  }
}

}  // namespace

at::Tensor attention_max_logit(const at::Tensor& q_THK, const at::Tensor& k_SGK,
                               const Sequences& sequences, const AttentionOptions& options) {
  check_arguments(q_THK, k_SGK, sequences, options);
  const at::NoGradGuard no_grad;
  const at::Tensor q = q_THK.detach(), k = k_SGK.detach();
  const Arguments arguments{q, k, sequences.cu_q, sequences.cu_k, options};
  return select_kernel(kOp, kKernels, arguments).run.forward(arguments);
}

}  // namespace headway::ops
