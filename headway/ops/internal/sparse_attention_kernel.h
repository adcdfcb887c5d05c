// What every sparse attention kernel takes and returns: the row type of the table in
// sparse_attention.cpp.
// Not for: callers of the op (use headway/ops/sparse_attention.h).
#pragma once

#include <cstdint>

#include <ATen/core/Tensor.h>

#include "headway/ops/kernel_table.h"

namespace headway::ops::internal {

/// Checked arguments, of one dtype: float32 or float64.
struct SparseAttentionArguments {
  at::Tensor q;       // [T,H,K] contiguous
  at::Tensor kv;      // [S,K] contiguous
  at::Tensor chosen;  // int64 [T,J] contiguous, on the CPU
  int64_t value_dim = 0;
  double scale = 0.0;
};

struct SparseAttentionGradients {
  at::Tensor q;
  at::Tensor kv;
};

struct SparseAttentionFunctions {
  at::Tensor (*forward)(const SparseAttentionArguments&) = nullptr;
  SparseAttentionGradients (*backward)(const SparseAttentionArguments&, const at::Tensor& out,
                                       const at::Tensor& d_out) = nullptr;
};

using SparseAttentionKernel = Kernel<SparseAttentionArguments, SparseAttentionFunctions>;

Support sparse_attention_cpu_supports(const SparseAttentionArguments& a);
at::Tensor sparse_attention_cpu_forward(const SparseAttentionArguments& a);
SparseAttentionGradients sparse_attention_cpu_backward(const SparseAttentionArguments& a,
                                                       const at::Tensor& out,
                                                       const at::Tensor& d_out);

}  // namespace headway::ops::internal
