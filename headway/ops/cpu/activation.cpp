// Activations on tensors by the row kernels: threads over rows. Not for: arithmetic
// (cpu/activation_kernels.cpp).
#include <ATen/Functions.h>
#include <ATen/Parallel.h>

#include "headway/ops/cpu/activation_rows.h"
#include "headway/ops/cpu/tensor_rows.h"
#include "headway/ops/internal/activation_kernel.h"

namespace headway::ops::internal {
namespace {

void run(const cpu::ActivationRows& rows, int64_t elements) {
  const int64_t row_elements = rows.gated ? 2 * rows.width : rows.width;
  at::parallel_for(0, elements / row_elements, row_grain(row_elements),
                   [&](int64_t begin, int64_t end) { cpu::activation_rows(rows, begin, end); });
}

}  // namespace

Support activation_simd_supports(const ActivationArguments& arguments) {
  if (arguments.kind == ActivationKind::kGelu) return Support::no("erf-gelu has no vector form");
  return cpu::supports_rows(arguments.x);
}

at::Tensor activation_simd_forward(const ActivationArguments& arguments) {
  const TargetScope target(forced_target("activation"));
  const at::Tensor& x = arguments.x;
  auto sizes = x.sizes().vec();
  if (arguments.gated) sizes.back() /= 2;
  at::Tensor y = at::empty(sizes, x.options());
  cpu::ActivationRows rows = vector_rows(arguments);
  rows.y = y.data_ptr();
  run(rows, x.numel());
  return y;
}

at::Tensor activation_simd_backward(const ActivationArguments& arguments, const at::Tensor& d_y) {
  const TargetScope target(forced_target("activation"));
  const at::Tensor gradient = d_y.contiguous();
  at::Tensor d_x = cpu::empty_rows(arguments.x);
  if (d_x.numel() == 0) return d_x;
  cpu::ActivationRows rows = vector_rows(arguments);
  rows.d_y = gradient.const_data_ptr();
  rows.d_x = d_x.data_ptr();
  run(rows, d_x.numel());
  return d_x;
}

}  // namespace headway::ops::internal
