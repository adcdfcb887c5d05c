// Readable activations by ATen ops: any float dtype, any device.
// Not for: speed.
#pragma once

#include "headway/ops/internal/activation_kernel.h"

namespace headway::ops::reference {

at::Tensor activation_forward(const internal::ActivationArguments& arguments);
at::Tensor activation_backward(const internal::ActivationArguments& arguments,
                               const at::Tensor& d_y);

}  // namespace headway::ops::reference
