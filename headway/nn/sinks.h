// The extra softmax logit of each head.
// Not for: what it does in a softmax (ops/attention.h).
#pragma once

#include <cstdint>

#include <ATen/core/Tensor.h>

#include "headway/nn/parameters.h"
#include "headway/spec/model_spec.h"

namespace headway::nn {

/// One logit a head [H]: `sinks` of the scope where they are learnt, zeros for off-by-one;
/// undefined without.
at::Tensor take_sinks(spec::SinkKind kind, int64_t num_heads, const ParameterScope& scope);

}  // namespace headway::nn
