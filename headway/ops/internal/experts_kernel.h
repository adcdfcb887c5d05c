// What every experts kernel takes and gives: the row type of the table in experts.cpp.
// Not for: callers of the op (use headway/ops/experts.h).
// Legend: T tokens, K experts a token chooses, E experts, I inputs, F inner width, O outputs,
// R rows of the up projection, N pairs (token, expert) in order of their expert.
#pragma once

#include <ATen/core/Tensor.h>

#include "headway/ops/experts.h"
#include "headway/ops/internal/expert_order.h"
#include "headway/ops/kernel_table.h"

namespace headway::ops::internal {

/// Checked arguments.
struct ExpertArguments {
  at::Tensor x;        // [T,I] contiguous
  at::Tensor weights;  // [T,K] contiguous
  at::Tensor experts;  // int64 [T,K] contiguous, on the CPU
  ExpertWeights expert;
  ExpertOptions options;

  int64_t up_rows() const { return expert.up.size(0) / options.num_experts; }
  int64_t down_rows() const { return expert.down.size(0) / options.num_experts; }
};

struct ExpertsForward {
  at::Tensor y;        // [T,O]
  at::Tensor up_rows;  // [N,R] what the up projection gave; undefined if not asked for
};

struct ExpertsWanted {
  bool x = false, weights = false, up = false, up_bias = false, down = false, down_bias = false;
};

/// Gradients not asked for stay undefined.
struct ExpertsGradients {
  at::Tensor x, weights, up, up_bias, down, down_bias;
};

struct ExpertsFunctions {
  ExpertsForward (*forward)(const ExpertArguments&, bool keep_up) = nullptr;
  ExpertsGradients (*backward)(const ExpertArguments&, const at::Tensor& up_rows,
                               const at::Tensor& d_y, const ExpertsWanted& wanted) = nullptr;
};

using ExpertsKernel = Kernel<ExpertArguments, ExpertsFunctions>;

/// Rows [e·rows, (e+1)·rows) of a stacked weight or bias.
inline at::Tensor expert_rows(const at::Tensor& stacked, int64_t expert, int64_t rows) {
  return stacked.narrow(0, expert * rows, rows);
}

/// Blocks of rows of one expert, each a chain of products while it is in the cache: float32 and
/// bfloat16 on the CPU. Few tokens: matrix-vector products of the chosen experts only.
Support experts_blocks_supports(const ExpertArguments& arguments);
ExpertsForward experts_blocks_forward(const ExpertArguments& arguments, bool keep_up);
ExpertsGradients experts_blocks_backward(const ExpertArguments& arguments,
                                         const at::Tensor& up_rows, const at::Tensor& d_y,
                                         const ExpertsWanted& wanted);

/// The forward pass for few pairs of tokens and experts; nothing is kept for a backward pass.
at::Tensor experts_few_tokens(const ExpertArguments& arguments, const ExpertOrder& order);
bool takes_few_tokens(const ExpertArguments& arguments);

}  // namespace headway::ops::internal
