// Readable sigmoid gate by ATen ops: any float dtype, any device.
// Not for: speed.
#pragma once

#include "headway/ops/internal/gate_kernel.h"

namespace headway::ops::reference {

at::Tensor gate_forward(const internal::GateArguments& arguments);
internal::GateGradients gate_backward(const internal::GateArguments& arguments,
                                      const at::Tensor& d_y);

}  // namespace headway::ops::reference
