// What every attention kernel takes and returns: the row type of the table in attention.cpp.
// Not for: callers of the op (use headway/ops/attention.h).
// Legend: T query tokens, S key tokens, H query heads, G kv heads, K head dim, V value dim.
#pragma once

#include <algorithm>
#include <cstdint>

#include <ATen/core/Tensor.h>

#include "headway/ops/attention.h"
#include "headway/ops/kernel_table.h"
#include "headway/ops/sequences.h"

namespace headway::ops::internal {

/// Checked arguments; `sinks` may be undefined. Boundaries are borrowed for the length of a call.
struct AttentionArguments {
  at::Tensor q;      // [T,H,K]
  at::Tensor k;      // [S,G,K]
  at::Tensor v;      // [S,G,V]
  at::Tensor sinks;  // [H] or undefined
  const std::vector<int64_t>& cu_q;
  const std::vector<int64_t>& cu_k;
  AttentionOptions options;
};

/// `lse` is the log of the softmax denominator, the sink included: fp32 or fp64, -inf where
/// nothing is visible.
struct AttentionForward {
  at::Tensor out;  // [T,H,V], dtype of q
  at::Tensor lse;  // [H,T]
};

struct AttentionBackwardArguments {
  AttentionForward forward;
  at::Tensor d_out;                                              // [T,H,V], last dim contiguous
  bool q = true, k = true, v = true, sinks = true, bias = true;  // gradients asked for
};

/// Gradients not asked for stay undefined; the others have the dtype of their input.
struct AttentionGradients {
  at::Tensor q, k, v, sinks, bias;
};

struct AttentionFunctions {
  AttentionForward (*forward)(const AttentionArguments&) = nullptr;
  AttentionGradients (*backward)(const AttentionArguments&,
                                 const AttentionBackwardArguments&) = nullptr;
};

using AttentionKernel = Kernel<AttentionArguments, AttentionFunctions>;

/// Keys [first, last) of a sequence that a query may see; empty when last <= first.
struct KeyRange {
  int64_t first;
  int64_t last;
};

/// Range of query `i` in a sequence of `sq` queries and `sk` keys under `rule` (bottom-right
/// aligned).
inline KeyRange visible_keys(const AttentionRule& rule, int64_t i, int64_t sq, int64_t sk) {
  const int64_t position = i + sk - sq;
  const int64_t first = rule.left < 0 ? 0 : std::max<int64_t>(0, position - rule.left);
  const int64_t last = rule.right < 0 ? sk : std::min(sk, position + rule.right + 1);
  return {first, std::max<int64_t>(last, 0)};
}

}  // namespace headway::ops::internal
