// Readable RMSNorm and LayerNorm by ATen ops: any float dtype, any device.
// Not for: speed.
#pragma once

#include "headway/ops/internal/norm_kernel.h"

namespace headway::ops::reference {

internal::NormForward norm_forward(const internal::NormArguments& arguments);
internal::NormGradients norm_backward(const internal::NormArguments& arguments,
                                      const internal::NormBackwardArguments& wanted);

}  // namespace headway::ops::reference
