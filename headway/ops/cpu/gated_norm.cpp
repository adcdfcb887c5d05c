// Gated norm on tensors by the row kernels: threads, fixed blocks of the weight's gradient.
// Not for: arithmetic on rows (cpu/gated_norm_kernels.cpp).
#include <algorithm>

#include <ATen/Functions.h>
#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>

#include "headway/ops/cpu/gated_norm_kernels.h"
#include "headway/ops/cpu/tensor_rows.h"
#include "headway/ops/internal/gated_norm_kernel.h"

namespace headway::ops::internal {
namespace {

// The weight's gradient is summed in this many blocks of rows at most, whatever the threads.
constexpr int64_t kMaxBlocks = 64;
constexpr int64_t kMinBlockRows = 32;

/// w' [C] in float32.
at::Tensor factor_of(const GatedNormArguments& a) {
  if (!a.weight.defined()) return at::ones({a.x.size(-1)}, at::kFloat);
  const at::Tensor weight = a.weight.to(at::kFloat).contiguous();
  return a.options.flavour == NormFlavour::kZeroCentered ? weight + 1 : weight;
}

cpu::GatedNormRows rows_of(const GatedNormArguments& a, const cpu::TensorRows& x,
                           const cpu::TensorRows& z, const at::Tensor& factor) {
  cpu::GatedNormRows rows;
  rows.element = cpu::element_of(a.x);
  rows.silu = a.options.gate == NormGate::kSilu;
  rows.channels = a.x.size(-1);
  rows.x = x.data();
  rows.x_layout = x.layout;
  rows.z = z.data();
  rows.z_layout = z.layout;
  rows.weight = factor.const_data_ptr<float>();
  rows.eps = static_cast<float>(a.options.eps);
  return rows;
}

}  // namespace

Support gated_norm_simd_supports(const GatedNormArguments& arguments) {
  return cpu::supports_rows(arguments.x);
}

GatedNormForward gated_norm_simd_forward(const GatedNormArguments& a) {
  const TargetScope target(forced_target("gated_rms_norm"));
  const at::Tensor factor = factor_of(a);
  const cpu::TensorRows x(a.x), z(a.z);
  GatedNormForward out{cpu::empty_rows(a.x),
                       at::empty(a.x.sizes().slice(0, a.x.dim() - 1), at::kFloat)};
  cpu::GatedNormRows rows = rows_of(a, x, z, factor);
  rows.y = out.y.data_ptr();
  rows.rstd = out.rstd.data_ptr<float>();
  at::parallel_for(0, x.layout.rows, row_grain(rows.channels), [&](int64_t begin, int64_t end) {
    cpu::gated_norm_forward_rows(rows, begin, end);
  });
  return out;
}

GatedNormGradients gated_norm_simd_backward(const GatedNormArguments& a, const at::Tensor& rstd,
                                            const at::Tensor& d_y) {
  const TargetScope target(forced_target("gated_rms_norm"));
  const at::Tensor factor = factor_of(a);
  const cpu::TensorRows x(a.x), z(a.z), gradient(d_y);
  GatedNormGradients gradients{cpu::empty_rows(a.x), cpu::empty_rows(a.z), {}};
  cpu::GatedNormRows rows = rows_of(a, x, z, factor);
  rows.d_y = gradient.data();
  rows.d_y_layout = gradient.layout;
  rows.rstd = rstd.data_ptr<float>();
  rows.d_x = gradients.x.data_ptr();
  rows.d_z = gradients.z.data_ptr();
  const int64_t count = x.layout.rows;
  const int64_t block_rows = std::max(kMinBlockRows, (count + kMaxBlocks - 1) / kMaxBlocks);
  const int64_t blocks = (count + block_rows - 1) / block_rows;
  const at::Tensor sums = at::zeros({blocks, rows.channels}, at::kFloat);
  at::parallel_for(
      0, blocks, row_grain(block_rows * rows.channels), [&](int64_t begin, int64_t end) {
        for (int64_t block = begin; block < end; ++block) {
          const int64_t first = block * block_rows;
          cpu::gated_norm_backward_rows(rows, first, std::min(count, first + block_rows),
                                        sums.data_ptr<float>() + block * rows.channels);
        }
      });
  if (a.weight.defined()) gradients.weight = sums.sum(0).to(a.weight.scalar_type());
  return gradients;
}

}  // namespace headway::ops::internal
