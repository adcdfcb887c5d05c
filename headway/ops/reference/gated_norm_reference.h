// The gated norm as its formula reads, in any dtype. Not for: speed.
#pragma once

#include "headway/ops/internal/gated_norm_kernel.h"

namespace headway::ops::reference {

internal::GatedNormForward gated_norm_forward(const internal::GatedNormArguments& arguments);
internal::GatedNormGradients gated_norm_backward(const internal::GatedNormArguments& arguments,
                                                 const at::Tensor& rstd, const at::Tensor& d_y);

}  // namespace headway::ops::reference
