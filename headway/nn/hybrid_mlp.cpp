// See hybrid_mlp.h. Not for: either branch.
#include "headway/nn/hybrid_mlp.h"

#include <ATen/TensorOperators.h>

namespace headway::nn {

HybridMlp::HybridMlp(const spec::HybridMlpSpec& spec, const ParameterScope& scope)
    : dense_(spec.dense, scope.child("dense")),
      routed_(spec.routed, scope.child("routed")),
      dense_pre_norm_(make_norm(spec.dense_pre_norm, scope, "dense_pre_norm")),
      dense_post_norm_(make_norm(spec.dense_post_norm, scope, "dense_post_norm")),
      routed_pre_norm_(make_norm(spec.routed_pre_norm, scope, "routed_pre_norm")),
      routed_post_norm_(make_norm(spec.routed_post_norm, scope, "routed_post_norm")) {}

at::Tensor HybridMlp::forward(const MlpInput& input) const {
  const at::Tensor dense =
      apply_norm(dense_post_norm_, dense_.forward(apply_norm(dense_pre_norm_, input.x_TD)));
  const at::Tensor to_experts = apply_norm(routed_pre_norm_, input.x_TD);
  const at::Tensor routed =
      routed_.forward({to_experts, input.sequences, input.routing}, input.x_TD);
  return dense + apply_norm(routed_post_norm_, routed);
}

}  // namespace headway::nn
