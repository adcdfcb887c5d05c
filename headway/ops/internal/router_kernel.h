// What every route kernel takes and gives: the row type of the table in router.cpp.
// Not for: callers of the op (use headway/ops/router.h).
// Legend: T tokens, E experts, K chosen ones.
#pragma once

#include <ATen/core/Tensor.h>

#include "headway/ops/kernel_table.h"
#include "headway/ops/router.h"

namespace headway::ops::internal {

/// Checked arguments.
struct RouterArguments {
  at::Tensor logits;  // [T,E]
  at::Tensor bias;    // [E] of the accumulating type, or undefined
  RouterOptions options;
  at::Tensor keys;  // [T,E] of the accumulating type, or undefined: they decide the choice
};

struct RouterFunctions {
  Routing (*forward)(const RouterArguments&) = nullptr;
  /// The gradient of the logits from that of the weights.
  at::Tensor (*backward)(const RouterArguments&, const at::Tensor& experts,
                         const at::Tensor& d_weights) = nullptr;
};

using RouterKernel = Kernel<RouterArguments, RouterFunctions>;

/// Added to sums that divide scores.
inline constexpr double kScoreEpsilon = 1e-20;
/// Above it ln(1 + e^x) is x.
inline constexpr double kSoftplusLimit = 20.0;

/// Scores [T,E] of logits in their own dtype, by library calls.
at::Tensor router_scores(const at::Tensor& logits, RouterScore score);
/// Gradient of the logits from that of their scores.
at::Tensor router_scores_backward(const at::Tensor& logits, const at::Tensor& scores,
                                  RouterScore score, const at::Tensor& d_scores);

/// Token by token on the CPU: float32 and float64.
Support route_rows_supports(const RouterArguments& arguments);
Routing route_rows_forward(const RouterArguments& arguments);
at::Tensor route_rows_backward(const RouterArguments& arguments, const at::Tensor& experts,
                               const at::Tensor& d_weights);

}  // namespace headway::ops::internal
