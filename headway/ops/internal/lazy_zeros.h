// Zeros whose pages the system hands out only when they are written: the dense gradient of a large
// table of which a batch touches a few rows.
// Not for: small tensors or tensors that are written in full (at::empty is as good and pooled).
#pragma once

#include <ATen/core/Tensor.h>

namespace headway::ops::internal {

/// Contiguous zeros on the CPU, page-aligned when large. Reading an untouched page costs no memory.
at::Tensor lazy_zeros(at::IntArrayRef sizes, at::ScalarType type);

}  // namespace headway::ops::internal
