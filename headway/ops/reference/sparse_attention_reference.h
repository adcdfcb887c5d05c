// Readable sparse attention by ATen ops: float32 and float64, any device.
// Not for: speed.
#pragma once

#include "headway/ops/internal/sparse_attention_kernel.h"

namespace headway::ops::reference {

at::Tensor sparse_attention_forward(const internal::SparseAttentionArguments& a);
internal::SparseAttentionGradients sparse_attention_backward(
    const internal::SparseAttentionArguments& a, const at::Tensor& out, const at::Tensor& d_out);

}  // namespace headway::ops::reference
