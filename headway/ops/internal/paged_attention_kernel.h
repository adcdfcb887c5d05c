// What every kernel of paged attention takes: the row type of the table in paged_attention.cpp.
// Not for: callers of the op (use headway/ops/paged_attention.h).
#pragma once

#include <ATen/core/Tensor.h>

#include "headway/ops/kernel_table.h"
#include "headway/ops/paged_attention.h"

namespace headway::ops::internal {

/// Checked arguments; `sinks` may be undefined. Borrowed for the length of a call.
struct PagedAttentionArguments {
  const at::Tensor& q;
  const PagedKeys& keys;
  const at::Tensor& sinks;
  const Sequences& sequences;
  const AttentionOptions& options;
};

struct PagedAttentionFunctions {
  at::Tensor (*forward)(const PagedAttentionArguments&) = nullptr;
};

using PagedAttentionKernel = Kernel<PagedAttentionArguments, PagedAttentionFunctions>;

}  // namespace headway::ops::internal
