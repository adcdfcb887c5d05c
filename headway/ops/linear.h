// Matrix product with weights stored [out, in].
// Not for: batched or grouped products.
#pragma once

#include <cstddef>
#include <deque>
#include <vector>

#include <ATen/core/Tensor.h>
#include <ATen/core/ivalue.h>

namespace headway::ops {

/// y = x Wᵀ + b. Shapes: x [T,I], W [O,I], b [O] or undefined -> [T,O].
/// Dtype:  all of x's; sums in fp32 for 16-bit types.
/// Grad:   dx = dy W, dW = dyᵀ x, db = Σ_t dy in a fixed order; each only where needed.
/// Errors: ShapeError. Test: tests/kernels/linear_test.cpp
at::Tensor linear(const at::Tensor& x_TI, const at::Tensor& weight_OI, const at::Tensor& bias_O);

/// Inputs and output gradients of backward passes whose weight gradients wait, oldest first.
/// Reference-counted, because autograd nodes hold it too.
class WgradQueue : public torch::CustomClassHolder {
 public:
  struct Entry {
    at::Tensor x_TI;
    at::Tensor dy_TO;
  };
  void push(Entry entry) { entries_.push_back(std::move(entry)); }
  /// The oldest entry; there must be one.
  Entry pop();
  size_t size() const { return entries_.size(); }
  void clear() { entries_.clear(); }

 private:
  std::deque<Entry> entries_;
};

/// linear() whose backward gives dx at once and leaves x and dy in `queue` in place of dW and db.
/// Where weight and bias need no gradient it is linear().
/// Source: Qi et al. 2023, zero-bubble pipelines. Test: tests/unit/nn/delayed_wgrad_test.cpp
at::Tensor delayed_linear(const at::Tensor& x_TI, const at::Tensor& weight_OI,
                          const at::Tensor& bias_O, const c10::intrusive_ptr<WgradQueue>& queue);

/// dW [O,I] and db [O] of an entry, with the bits that linear()'s own backward gives; tensors not
/// asked for stay undefined.
struct LinearWgrad {
  at::Tensor weight_OI;
  at::Tensor bias_O;
};
LinearWgrad linear_wgrad(const WgradQueue::Entry& entry, bool weight, bool bias);

/// Column runs of x [T, Σ widths] (the row segments of a fused projection), sharing its memory, as
/// one autograd node: backward writes each run's gradient once into one buffer instead of adding
/// zero-padded copies. Not to be written into.
/// Shapes: x [T, Σ widths] -> for each width w a tensor [T, w].
/// Errors: ShapeError if a width is not positive or they do not add up.
std::vector<at::Tensor> split_columns(const at::Tensor& x, const std::vector<int64_t>& widths);

/// (residual + delta)·scale for a scalar tensor `scale` [1] (undefined = 1): the end of a block
/// with a layer scalar. Shapes: residual and delta alike. Dtype: all of residual's. Grad: residual,
/// delta, scale (only if it requires one). Errors: ShapeError.
at::Tensor scaled_residual(const at::Tensor& residual, const at::Tensor& delta,
                           const at::Tensor& scale);

}  // namespace headway::ops
