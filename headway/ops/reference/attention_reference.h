// The reference attention kernel: any dtype, any device, an S x S mask per sequence.
// Not for: speed.
#pragma once

#include "headway/ops/internal/attention_kernel.h"

namespace headway::ops::reference {

internal::AttentionForward attention_forward(const internal::AttentionArguments& arguments);

internal::AttentionGradients attention_backward(
    const internal::AttentionArguments& arguments,
    const internal::AttentionBackwardArguments& backward);

}  // namespace headway::ops::reference
