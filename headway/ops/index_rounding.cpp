// The rotation as a butterfly, and simulated 8-bit blocks. Not for: files.
#include "headway/ops/index_rounding.h"

#include <algorithm>
#include <cmath>

#include <ATen/Functions.h>
#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <torch/csrc/autograd/custom_function.h>

#include "headway/ops/internal/arguments.h"

namespace headway::ops {
namespace {

constexpr int64_t kScaleBlock = 128;
constexpr double kLargest = 448.0;  // of e4m3
constexpr double kLeastMagnitude = 1e-4;
constexpr int64_t kRowsOfTask = 64;

template <class Real>
void rotate_rows(Real* data, int64_t rows, int64_t channels) {
  const Real norm = static_cast<Real>(1.0 / std::sqrt(static_cast<double>(channels)));
  at::parallel_for(0, rows, kRowsOfTask, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      Real* x = data + row * channels;
      for (int64_t half = 1; half < channels; half *= 2) {
        for (int64_t first = 0; first < channels; first += 2 * half) {
          for (int64_t i = first; i < first + half; ++i) {
            const Real a = x[i], b = x[i + half];
            x[i] = a + b;
            x[i + half] = a - b;
          }
        }
      }
      for (int64_t i = 0; i < channels; ++i) x[i] *= norm;
    }
  });
}

at::Tensor rotated(const at::Tensor& x) {
  const at::ScalarType wide = internal::accumulate_type(x);
  at::Tensor y = x.detach().to(at::kCPU, wide).clone(at::MemoryFormat::Contiguous);
  const int64_t channels = x.size(-1), rows = x.numel() / channels;
  if (wide == at::kDouble) {
    rotate_rows(y.data_ptr<double>(), rows, channels);
  } else {
    rotate_rows(y.data_ptr<float>(), rows, channels);
  }
  return y.to(x.device(), x.scalar_type());
}

class HadamardFunction : public torch::autograd::Function<HadamardFunction> {
 public:
  static at::Tensor forward(torch::autograd::AutogradContext*, const at::Tensor& x) {
    return rotated(x);
  }
  static torch::autograd::variable_list backward(torch::autograd::AutogradContext*,
                                                 const torch::autograd::variable_list& grads) {
    return {rotated(grads[0])};
  }
};

at::Tensor rounded_block(const at::Tensor& block) {
  const at::Tensor magnitude =
      at::amax(block.abs(), {-1}, true).clamp_min(kLeastMagnitude) / kLargest;
  const at::Tensor scale = at::exp2(at::ceil(at::log2(magnitude)));
  const at::Tensor held = (block / scale).clamp(-kLargest, kLargest).to(at::kFloat8_e4m3fn);
  return held.to(block.scalar_type()) * scale;
}

}  // namespace

at::Tensor hadamard(const at::Tensor& x) {
  internal::check_floating("hadamard", "x", x);
  const int64_t channels = x.dim() == 0 ? 0 : x.size(-1);
  if (channels < 1 || (channels & (channels - 1)) != 0) {
    internal::throw_shape("hadamard", "x", x.sizes(), "a power of two of channels");
  }
  return internal::records_gradient(x) ? HadamardFunction::apply(x) : rotated(x);
}

at::Tensor round_to_fp8_blocks(const at::Tensor& x) {
  internal::check_floating("round_to_fp8_blocks", "x", x);
  if (x.dim() == 0) internal::throw_shape("round_to_fp8_blocks", "x", x.sizes(), "[…,C]");
  at::Tensor change;
  {
    const at::NoGradGuard no_grad;
    const at::Tensor wide = x.to(internal::accumulate_type(x));
    at::Tensor held = at::empty_like(wide);
    for (int64_t first = 0; first < x.size(-1); first += kScaleBlock) {
      const int64_t count = std::min(kScaleBlock, x.size(-1) - first);
      held.narrow(-1, first, count).copy_(rounded_block(wide.narrow(-1, first, count)));
    }
    change = held.to(x.scalar_type()) - x;
  }
  return x + change;
}

}  // namespace headway::ops
