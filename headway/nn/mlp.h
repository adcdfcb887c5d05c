// Dense MLP, gated or plain.
// Not for: mixture-of-experts.
#pragma once

#include <ATen/core/Tensor.h>

#include "headway/nn/linear.h"
#include "headway/nn/parameters.h"
#include "headway/spec/model_spec.h"

namespace headway::nn {

/// gated: down( act(gate x) ∘ up x ), `gate | up` being one projection; plain: down( act(up x) ).
class DenseMlp {
 public:
  /// Takes up.{weight,bias} and down.{weight,bias} of the scope.
  DenseMlp(const spec::DenseMlpSpec& spec, const ParameterScope& scope);
  /// x [T,D] -> [T,D].
  at::Tensor forward(const at::Tensor& x_TD) const;

 private:
  spec::DenseMlpSpec spec_;
  Linear up_;
  Linear down_;
};

}  // namespace headway::nn
