// Linear as its formula reads; the library's GEMM is also the fastest at many rows.
// Not for: few rows on the CPU (see cpu/gemv.cpp).
#include "headway/ops/reference/linear_reference.h"

#include <ATen/Functions.h>

namespace headway::ops::reference {

at::Tensor linear_forward(const internal::LinearArguments& arguments) {
  const at::Tensor weight_IO = arguments.weight.t();
  if (!arguments.bias.defined()) return at::mm(arguments.x, weight_IO);
  return at::addmm(arguments.bias, arguments.x, weight_IO);
}

}  // namespace headway::ops::reference
