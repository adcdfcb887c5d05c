// A projection whose weight is made of named row segments: one GEMM, several outputs.
// Not for: initialisation or file names (both are in the inventory).
#pragma once

#include <memory>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

#include "headway/nn/parameters.h"
#include "headway/ops/linear.h"
#include "headway/ops/low_rank_linear.h"

namespace headway::nn {

class Linear {
 public:
  /// Takes `weight` and, if listed, `bias` and `adapter.*` of the scope.
  explicit Linear(const ParameterScope& scope);

  /// x [T,I] -> [T, Σ rows].
  at::Tensor forward(const at::Tensor& x_TI) const;
  /// One view per row segment, in inventory order.
  std::vector<at::Tensor> forward_segments(const at::Tensor& x_TI) const;
  /// What forward multiplies with [Σ rows, I], its adapter included: for arithmetic that needs the
  /// matrix itself. Gradients arrive where those of forward do, and are never delayed.
  at::Tensor weight() const;
  /// The gradients of weight and bias of the oldest backward pass that left them waiting
  /// (Parameters::delayed), added as that pass itself would have added them, bit for bit. Does
  /// nothing where none waits, and so while delaying is off.
  void backward_dw() const;
  /// Backward passes whose weight gradients wait.
  size_t waiting() const { return queue_->size(); }
  /// Position of a segment in forward_segments, or -1.
  int segment(const std::string& name) const;

 private:
  at::Tensor full_bias() const;

  at::Tensor weight_;
  at::Tensor bias_;  // rows of the segments that have one, in order
  std::vector<bool> biased_;
  std::vector<std::string> names_;
  std::vector<int64_t> widths_;
  std::shared_ptr<const ops::LowRank> adapter_;  // null without one
  std::shared_ptr<DelayedGradients> delayed_;
  c10::intrusive_ptr<ops::WgradQueue> queue_;
};

}  // namespace headway::nn
