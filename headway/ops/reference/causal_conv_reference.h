// The causal convolution as its formula reads, in any dtype. Not for: speed.
#pragma once

#include "headway/ops/internal/causal_conv_kernel.h"

namespace headway::ops::reference {

at::Tensor causal_conv_forward(const internal::CausalConvArguments& arguments);
internal::CausalConvGradients causal_conv_backward(
    const internal::CausalConvArguments& arguments,
    const internal::CausalConvCotangents& cotangents);

}  // namespace headway::ops::reference
