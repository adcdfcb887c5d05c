// The reference of linear + cross-entropy: all logits at once, any dtype, any device.
// Not for: speed or large vocabularies.
#pragma once

#include "headway/ops/internal/linear_cross_entropy_kernel.h"

namespace headway::ops::reference {

internal::CrossEntropySums linear_cross_entropy(const internal::CrossEntropyArguments& arguments);

}  // namespace headway::ops::reference
