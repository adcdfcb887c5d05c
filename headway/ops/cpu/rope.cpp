// Rope on tensors by the row kernel: threads over tokens. Not for: arithmetic
// (cpu/rope_kernels.cpp).
#include <ATen/Parallel.h>

#include "headway/ops/cpu/rope_kernels.h"
#include "headway/ops/cpu/tensor_rows.h"
#include "headway/ops/internal/rope_kernel.h"

namespace headway::ops::internal {

Support rope_simd_supports(const RopeArguments& arguments) {
  return cpu::supports_rows(arguments.x);
}

at::Tensor rope_simd(const RopeArguments& arguments) {
  const TargetScope target(forced_target("rope"));
  const at::Tensor& x = arguments.x;
  at::Tensor y = cpu::empty_rows(x);
  cpu::RopeRows rows;
  rows.element = cpu::element_of(x);
  rows.x = x.const_data_ptr();
  rows.token_stride = x.stride(0);
  rows.head_stride = x.stride(1);
  rows.heads = x.size(1);
  rows.channels = x.size(2);
  rows.cos = arguments.cos.const_data_ptr<float>();
  rows.sin = arguments.sin.const_data_ptr<float>();
  rows.pairs = arguments.cos.size(1);
  rows.positions = arguments.positions.const_data_ptr<int64_t>();
  rows.interleaved = arguments.interleaved;
  rows.inverse = arguments.inverse;
  rows.y = y.data_ptr();
  at::parallel_for(0, x.size(0), row_grain(rows.heads * rows.channels),
                   [&](int64_t begin, int64_t end) { cpu::rope_tokens(rows, begin, end); });
  return y;
}

}  // namespace headway::ops::internal
