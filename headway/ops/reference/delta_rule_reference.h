// The gated delta rule token by token, forward and adjoint: the definition, in any dtype.
// Not for: speed.
#pragma once

#include "headway/ops/internal/delta_rule_kernel.h"

namespace headway::ops::reference {

internal::DeltaRuleForward delta_rule_forward(const internal::DeltaRuleArguments& arguments);
internal::DeltaRuleGradients delta_rule_backward(
    const internal::DeltaRuleArguments& arguments,
    const internal::DeltaRuleBackwardArguments& wanted);

}  // namespace headway::ops::reference
