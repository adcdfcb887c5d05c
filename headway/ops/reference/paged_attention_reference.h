// The reference kernel of paged attention: gather, then attend. Not for: speed.
#pragma once

#include "headway/ops/internal/paged_attention_kernel.h"

namespace headway::ops::reference {

at::Tensor paged_attention(const internal::PagedAttentionArguments& arguments);

}  // namespace headway::ops::reference
