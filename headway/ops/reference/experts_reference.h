// Experts one after the other by library calls, any dtype and device.
// Not for: callers of the op (ops/experts.h).
#pragma once

#include "headway/ops/internal/experts_kernel.h"

namespace headway::ops::reference {

internal::ExpertsForward experts_forward(const internal::ExpertArguments& arguments, bool keep_up);
internal::ExpertsGradients experts_backward(const internal::ExpertArguments& arguments,
                                            const at::Tensor& up_rows, const at::Tensor& d_y,
                                            const internal::ExpertsWanted& wanted);

}  // namespace headway::ops::reference
