// The SIMD kernel of paged attention on the CPU: float32, bfloat16 and float16.
// Not for: float64.
#pragma once

#include "headway/ops/internal/paged_attention_kernel.h"

namespace headway::ops::cpu {

Support paged_attention_supports(const internal::PagedAttentionArguments& arguments);

at::Tensor paged_attention(const internal::PagedAttentionArguments& arguments);

}  // namespace headway::ops::cpu
