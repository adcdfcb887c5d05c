// The reference embedding kernel: any dtype, any device. Not for: speed.
#pragma once

#include "headway/ops/internal/embedding_kernel.h"

namespace headway::ops::reference {

at::Tensor embedding_forward(const internal::EmbeddingArguments& arguments,
                             const at::Tensor& table_VD);
at::Tensor embedding_backward(const internal::EmbeddingArguments& arguments,
                              const at::Tensor& d_out_TD);

}  // namespace headway::ops::reference
