// One weight made of named row segments. Not for: the product itself (ops).
#include "headway/nn/linear.h"

#include <ATen/Functions.h>
#include <ATen/core/grad_mode.h>
#include <torch/csrc/autograd/autograd.h>

#include "headway/nn/adapter.h"

namespace headway::nn {

Linear::Linear(const ParameterScope& scope)
    : weight_(scope.take("weight")),
      bias_(scope.take_optional("bias")),
      adapter_(low_rank_of(scope)),
      delayed_(scope.parameters().delayed()),
      queue_(c10::make_intrusive<ops::WgradQueue>()) {
  for (const spec::RowSegment& segment : scope.spec_of("weight").segments) {
    names_.push_back(segment.name);
    widths_.push_back(segment.rows);
    biased_.push_back(false);
  }
  if (bias_.defined()) {
    for (const spec::RowSegment& segment : scope.spec_of("bias").segments)
      biased_[this->segment(segment.name)] = true;
  }
  // A copy with the same handles, for this object may move; without the way back to the list.
  Linear waiting = *this;
  waiting.delayed_.reset();
  delayed_->linears.push_back(
      {[waiting] { waiting.backward_dw(); }, [queue = queue_] { queue->clear(); }});
}

/// The bias of every row; segments without one get zeros.
at::Tensor Linear::full_bias() const {
  if (!bias_.defined() || bias_.size(0) == weight_.size(0)) return bias_;
  std::vector<at::Tensor> parts;
  int64_t taken = 0;
  for (size_t i = 0; i < widths_.size(); ++i) {
    if (biased_[i]) {
      parts.push_back(bias_.narrow(0, taken, widths_[i]));
      taken += widths_[i];
    } else {
      parts.push_back(at::zeros({widths_[i]}, bias_.options()));
    }
  }
  return at::cat(parts);
}

at::Tensor Linear::forward(const at::Tensor& x_TI) const {
  if (adapter_ != nullptr) return ops::low_rank_linear(x_TI, weight_, full_bias(), *adapter_);
  if (delayed_->on) return ops::delayed_linear(x_TI, weight_, full_bias(), queue_);
  return ops::linear(x_TI, weight_, full_bias());
}

void Linear::backward_dw() const {
  if (queue_->size() == 0) return;
  const ops::WgradQueue::Entry entry = queue_->pop();
  const at::AutoGradMode record(true);  // the bias of some segments is made of its parameter
  const at::Tensor bias = full_bias();
  const bool learns_bias = bias.defined() && bias.requires_grad();
  const ops::LinearWgrad wgrad = ops::linear_wgrad(entry, weight_.requires_grad(), learns_bias);
  std::vector<at::Tensor> targets, gradients;
  if (wgrad.weight_OI.defined()) {
    targets.push_back(weight_);
    gradients.push_back(wgrad.weight_OI);
  }
  if (wgrad.bias_O.defined()) {
    targets.push_back(bias);
    gradients.push_back(wgrad.bias_O);
  }
  // Autograd's own accumulation: its bits, and its hooks, now.
  torch::autograd::backward(targets, gradients);
}

at::Tensor Linear::weight() const {
  if (adapter_ == nullptr) return weight_;
  return ops::low_rank_linear(at::eye(weight_.size(1), weight_.options()), weight_, {}, *adapter_)
      .t();
}

std::vector<at::Tensor> Linear::forward_segments(const at::Tensor& x_TI) const {
  return ops::split_columns(forward(x_TI), widths_);
}

int Linear::segment(const std::string& name) const {
  for (size_t i = 0; i < names_.size(); ++i) {
    if (names_[i] == name) return static_cast<int>(i);
  }
  return -1;
}

}  // namespace headway::nn
