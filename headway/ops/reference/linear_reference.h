// The linear op by the library's GEMM: any dtype, any device. Not for: hand-written products.
#pragma once

#include "headway/ops/internal/linear_kernel.h"

namespace headway::ops::reference {

at::Tensor linear_forward(const internal::LinearArguments& arguments);

}  // namespace headway::ops::reference
