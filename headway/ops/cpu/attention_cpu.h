// The SIMD kernel of attention on the CPU: float32, bfloat16 and float16. Not for: float64.
#pragma once

#include "headway/ops/internal/attention_kernel.h"

namespace headway::ops::cpu {

Support attention_supports(const internal::AttentionArguments& arguments);

internal::AttentionForward attention_forward(const internal::AttentionArguments& arguments);

internal::AttentionGradients attention_backward(
    const internal::AttentionArguments& arguments,
    const internal::AttentionBackwardArguments& backward);

}  // namespace headway::ops::cpu
