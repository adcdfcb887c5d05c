// A dense MLP and a mixture of experts side by side on one input.
// Not for: shared experts inside a mixture (moe.h).
#pragma once

#include <optional>

#include <ATen/core/Tensor.h>

#include "headway/nn/mlp.h"
#include "headway/nn/moe.h"
#include "headway/nn/norm.h"
#include "headway/nn/parameters.h"
#include "headway/spec/model_spec.h"

namespace headway::nn {

/// y = dense_post(dense(dense_pre(x))) + routed_post(experts(routed_pre(x))), the router reading x.
class HybridMlp {
 public:
  /// Takes dense.*, routed.* and the four norms of the scope.
  HybridMlp(const spec::HybridMlpSpec& spec, const ParameterScope& scope);
  /// x [T,D] -> [T,D].
  at::Tensor forward(const MlpInput& input) const;

 private:
  DenseMlp dense_;
  Moe routed_;
  std::optional<Norm> dense_pre_norm_;
  std::optional<Norm> dense_post_norm_;
  std::optional<Norm> routed_pre_norm_;
  std::optional<Norm> routed_post_norm_;
};

}  // namespace headway::nn
