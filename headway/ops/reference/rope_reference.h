// Readable rotary position embedding by ATen ops: any float dtype, any device.
// Not for: speed.
#pragma once

#include "headway/ops/internal/rope_kernel.h"

namespace headway::ops::reference {

at::Tensor rope(const internal::RopeArguments& arguments);

}  // namespace headway::ops::reference
