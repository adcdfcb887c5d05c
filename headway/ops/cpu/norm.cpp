// Norm on tensors by the row kernels: threads, fixed blocks of the weight's gradient.
// Not for: arithmetic on rows (cpu/norm_kernels.cpp).
#include <algorithm>

#include <ATen/Functions.h>
#include <ATen/Parallel.h>

#include "headway/ops/cpu/norm_kernels.h"
#include "headway/ops/cpu/tensor_rows.h"
#include "headway/ops/internal/norm_kernel.h"

namespace headway::ops::internal {
namespace {

// The weight's gradient is summed in this many blocks of rows at most, whatever the threads.
constexpr int64_t kMaxBlocks = 64;
constexpr int64_t kMinBlockRows = 32;

/// float32 and contiguous, or undefined.
at::Tensor float_vector(const at::Tensor& vector) {
  return vector.defined() ? vector.to(at::kFloat).contiguous() : at::Tensor();
}

const float* data_or_null(const at::Tensor& vector) {
  return vector.defined() ? vector.const_data_ptr<float>() : nullptr;
}

cpu::NormShape shape_of(const NormArguments& arguments, const at::Tensor& weight) {
  cpu::NormShape shape;
  shape.element = cpu::element_of(arguments.x);
  shape.layer = arguments.options.layer;
  shape.channels = arguments.x.size(-1);
  shape.weight = data_or_null(weight);
  if (!weight.defined()) {
    shape.weighting = cpu::NormWeighting::kNone;
  } else if (!shape.layer && arguments.options.flavour == NormFlavour::kZeroCentered) {
    shape.weighting = cpu::NormWeighting::kOnePlus;
  } else if (!shape.layer && arguments.options.flavour == NormFlavour::kPlain) {
    shape.weighting = cpu::NormWeighting::kRounded;
  }
  return shape;
}

/// Per-block sums [blocks, C] added up block by block.
at::Tensor combine_blocks(const at::Tensor& blocks, const at::Tensor& like) {
  const int64_t count = blocks.size(0), channels = blocks.size(1);
  at::Tensor total = at::zeros({channels}, blocks.options());
  float* sum = total.data_ptr<float>();
  const float* from = blocks.const_data_ptr<float>();
  at::parallel_for(0, channels, row_grain(count), [=](int64_t begin, int64_t end) {
    for (int64_t block = 0; block < count; ++block) {
      const float* row = from + block * channels;
      for (int64_t c = begin; c < end; ++c) sum[c] += row[c];
    }
  });
  return total.to(like.scalar_type());
}

/// Runs the backward rows block by block; blocks of d_weight and d_bias may be undefined.
void run_blocks(const cpu::NormBackwardRows& rows, int64_t block_rows, const at::Tensor& d_weight,
                const at::Tensor& d_bias) {
  const int64_t total = rows.x_layout.rows, channels = rows.shape.channels;
  float* weight_sums = d_weight.defined() ? d_weight.data_ptr<float>() : nullptr;
  float* bias_sums = d_bias.defined() ? d_bias.data_ptr<float>() : nullptr;
  const int64_t blocks = (total + block_rows - 1) / block_rows;
  const int64_t grain = row_grain(block_rows * channels);
  at::parallel_for(0, blocks, grain, [&](int64_t begin, int64_t end) {
    for (int64_t block = begin; block < end; ++block) {
      const int64_t first = block * block_rows;
      cpu::norm_backward_rows(rows, first, std::min(total, first + block_rows),
                              weight_sums == nullptr ? nullptr : weight_sums + block * channels,
                              bias_sums == nullptr ? nullptr : bias_sums + block * channels);
    }
  });
}

}  // namespace

Support norm_simd_supports(const NormArguments& arguments) {
  return cpu::supports_rows(arguments.x);
}

NormForward norm_simd_forward(const NormArguments& arguments) {
  const TargetScope target(forced_target("norm"));
  const at::Tensor& x = arguments.x;
  const at::Tensor weight = float_vector(arguments.weight), bias = float_vector(arguments.bias);
  const at::IntArrayRef row_sizes = x.sizes().slice(0, x.dim() - 1);
  const cpu::TensorRows x_rows(x);
  NormForward out;
  out.y = cpu::empty_rows(x);
  out.rstd = at::empty(row_sizes, x.options().dtype(at::kFloat));

  cpu::NormForwardRows rows;
  rows.shape = shape_of(arguments, weight);
  rows.x = x_rows.data();
  rows.x_layout = x_rows.layout;
  rows.bias = data_or_null(bias);
  rows.eps = static_cast<float>(arguments.options.eps);
  rows.y = out.y.data_ptr();
  rows.rstd = out.rstd.data_ptr<float>();
  if (arguments.options.layer) {
    out.mean = at::empty_like(out.rstd);
    rows.mean = out.mean.data_ptr<float>();
  }
  std::optional<cpu::TensorRows> delta;
  if (arguments.delta.defined()) {
    delta.emplace(arguments.delta);
    out.sum = cpu::empty_rows(x);
    rows.delta = delta->data();
    rows.delta_layout = delta->layout;
    rows.sum = out.sum.data_ptr();
  }
  at::parallel_for(0, rows.x_layout.rows, row_grain(rows.shape.channels),
                   [&](int64_t begin, int64_t end) { cpu::norm_forward_rows(rows, begin, end); });
  return out;
}

NormGradients norm_simd_backward(const NormArguments& arguments,
                                 const NormBackwardArguments& wanted) {
  const TargetScope target(forced_target("norm"));
  const at::Tensor weight = float_vector(arguments.weight);
  const cpu::TensorRows x(arguments.x), d_y(wanted.d_y);
  std::optional<cpu::TensorRows> d_sum;
  NormGradients gradients;
  gradients.x = cpu::empty_rows(arguments.x);

  cpu::NormBackwardRows rows;
  rows.shape = shape_of(arguments, weight);
  rows.x = x.data();
  rows.x_layout = x.layout;
  rows.d_y = d_y.data();
  rows.d_y_layout = d_y.layout;
  if (wanted.d_sum.defined()) {
    d_sum.emplace(wanted.d_sum);
    rows.d_sum = d_sum->data();
    rows.d_sum_layout = d_sum->layout;
  }
  rows.mean = data_or_null(wanted.mean);
  rows.rstd = wanted.rstd.const_data_ptr<float>();
  rows.d_x = gradients.x.data_ptr();

  const int64_t count = x.layout.rows, channels = rows.shape.channels;
  const int64_t block_rows = std::max(kMinBlockRows, (count + kMaxBlocks - 1) / kMaxBlocks);
  const int64_t blocks = (count + block_rows - 1) / block_rows;
  const auto sums = [&](bool asked, const at::Tensor& of) {
    const auto options = arguments.x.options().dtype(at::kFloat);
    return asked && of.defined() ? at::zeros({blocks, channels}, options) : at::Tensor();
  };
  const at::Tensor d_weight = sums(wanted.weight, arguments.weight);
  const at::Tensor d_bias = sums(wanted.bias, arguments.bias);
  run_blocks(rows, block_rows, d_weight, d_bias);
  if (d_weight.defined()) gradients.weight = combine_blocks(d_weight, arguments.weight);
  if (d_bias.defined()) gradients.bias = combine_blocks(d_bias, arguments.bias);
  return gradients;
}

}  // namespace headway::ops::internal
