// Scalar loops in double for the delta rule and its convolution: what the reference kernels are
// checked against. Not for: speed.
#pragma once

#include <vector>

#include <ATen/core/Tensor.h>

#include "headway/ops/causal_conv.h"
#include "headway/ops/delta_rule.h"

namespace headway::test {

/// out [T,H,V] and final states [N,H,K,V] in double.
ops::DeltaRuleResult naive_delta_rule(const ops::DeltaRuleInputs& inputs,
                                      const std::vector<int64_t>& cu,
                                      const ops::DeltaRuleOptions& options);

/// out [T,C] in double.
at::Tensor naive_causal_conv(const ops::CausalConvInputs& inputs, const std::vector<int64_t>& cu,
                             bool silu);

}  // namespace headway::test
