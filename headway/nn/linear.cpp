// One weight made of named row segments. Not for: the product itself (ops).
#include "headway/nn/linear.h"

#include <ATen/Functions.h>

#include "headway/ops/linear.h"

namespace headway::nn {

Linear::Linear(const ParameterScope& scope)
    : weight_(scope.take("weight")), bias_(scope.take_optional("bias")) {
  for (const spec::RowSegment& segment : scope.spec_of("weight").segments) {
    names_.push_back(segment.name);
    widths_.push_back(segment.rows);
    biased_.push_back(false);
  }
  if (!bias_.defined()) return;
  for (const spec::RowSegment& segment : scope.spec_of("bias").segments)
    biased_[this->segment(segment.name)] = true;
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
  return ops::linear(x_TI, weight_, full_bias());
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
