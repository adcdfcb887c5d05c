// The gated delta rule in chunks, by library calls: any dtype and device. Not for: the fused CPU
// kernel (cpu/delta_rule.cpp), which follows the same formulas.
#pragma once

#include "headway/ops/internal/delta_rule_kernel.h"

namespace headway::ops::reference {

internal::DeltaRuleForward delta_rule_chunked_forward(
    const internal::DeltaRuleArguments& arguments);
internal::DeltaRuleGradients delta_rule_chunked_backward(
    const internal::DeltaRuleArguments& arguments,
    const internal::DeltaRuleBackwardArguments& wanted);

}  // namespace headway::ops::reference
