// Routing by library calls, any dtype and device. Not for: callers of the op (ops/router.h).
#pragma once

#include "headway/ops/internal/router_kernel.h"

namespace headway::ops::reference {

Routing route_forward(const internal::RouterArguments& arguments);
at::Tensor route_backward(const internal::RouterArguments& arguments, const at::Tensor& experts,
                          const at::Tensor& d_weights);

}  // namespace headway::ops::reference
