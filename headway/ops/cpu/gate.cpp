// Sigmoid gate on tensors by the row kernels: threads over tokens. Not for: arithmetic
// (cpu/gate_kernels.cpp).
#include <ATen/Parallel.h>

#include "headway/ops/cpu/gate_kernels.h"
#include "headway/ops/cpu/tensor_rows.h"
#include "headway/ops/internal/gate_kernel.h"

namespace headway::ops::internal {
namespace {

cpu::HeadStrides head_strides(const at::Tensor& x) { return {x.stride(0), x.stride(1)}; }

/// The last dimension contiguous.
at::Tensor with_rows(const at::Tensor& x) {
  return x.size(2) == 1 || x.stride(2) == 1 ? x : x.contiguous();
}

/// Shape, x and gate; `gate` is what the pointer stays valid for.
cpu::GateRows gate_rows(const GateArguments& arguments, const at::Tensor& gate) {
  const at::Tensor& x = arguments.x;
  cpu::GateRows rows;
  rows.element = cpu::element_of(x);
  rows.head_wise = arguments.head_wise();
  rows.heads = x.size(1);
  rows.channels = x.size(2);
  rows.x = x.const_data_ptr();
  rows.x_strides = head_strides(x);
  rows.gate = gate.const_data_ptr();
  rows.gate_strides = head_strides(gate);
  return rows;
}

}  // namespace

Support gate_simd_supports(const GateArguments& arguments) {
  return cpu::supports_rows(arguments.x);
}

at::Tensor gate_simd_forward(const GateArguments& arguments) {
  const TargetScope target(forced_target("sigmoid_gate"));
  const at::Tensor gate = arguments.head_wise() ? arguments.gate : with_rows(arguments.gate);
  at::Tensor y = cpu::empty_rows(arguments.x);
  cpu::GateRows rows = gate_rows(arguments, gate);
  rows.y = y.data_ptr();
  at::parallel_for(0, y.size(0), row_grain(rows.heads * rows.channels),
                   [&](int64_t begin, int64_t end) { cpu::gate_forward_tokens(rows, begin, end); });
  return y;
}

GateGradients gate_simd_backward(const GateArguments& arguments, const at::Tensor& d_y) {
  const TargetScope target(forced_target("sigmoid_gate"));
  const at::Tensor gate = arguments.head_wise() ? arguments.gate : with_rows(arguments.gate);
  const at::Tensor gradient = with_rows(d_y);
  GateGradients gradients{cpu::empty_rows(arguments.x), cpu::empty_rows(arguments.gate)};
  cpu::GateRows rows = gate_rows(arguments, gate);
  rows.d_y = gradient.const_data_ptr();
  rows.d_y_strides = head_strides(gradient);
  rows.d_x = gradients.x.data_ptr();
  rows.d_gate = gradients.gate.data_ptr();
  at::parallel_for(
      0, d_y.size(0), row_grain(rows.heads * rows.channels),
      [&](int64_t begin, int64_t end) { cpu::gate_backward_tokens(rows, begin, end); });
  return gradients;
}

}  // namespace headway::ops::internal
