// The row type of the embedding's kernel table and its CPU kernel.
// Not for: callers of the op (use headway/ops/embedding.h).
// Legend: T tokens, V vocabulary rows, D hidden.
#pragma once

#include <cstdint>

#include <ATen/core/Tensor.h>

#include "headway/ops/kernel_table.h"

namespace headway::ops::internal {

/// Checked arguments; the table itself is an argument of forward only.
struct EmbeddingArguments {
  at::Tensor ids;  // int64 [T]
  int64_t rows = 0;
  double scale = 1.0;
  int64_t padding_id = -1;
  at::Device device = at::kCPU;
};

struct EmbeddingFunctions {
  at::Tensor (*forward)(const EmbeddingArguments&, const at::Tensor& table_VD) = nullptr;
  at::Tensor (*backward)(const EmbeddingArguments&, const at::Tensor& d_out_TD) = nullptr;
};

using EmbeddingKernel = Kernel<EmbeddingArguments, EmbeddingFunctions>;

/// Backward: tokens grouped by id, groups in parallel, tokens of one group added in order.
Support embedding_cpu_supports(const EmbeddingArguments& arguments);
at::Tensor embedding_cpu_forward(const EmbeddingArguments& arguments, const at::Tensor& table_VD);
at::Tensor embedding_cpu_backward(const EmbeddingArguments& arguments, const at::Tensor& d_out_TD);

}  // namespace headway::ops::internal
