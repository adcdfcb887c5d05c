// What a training step does with the loads of its routers: metrics, and the expert biases that
// steer towards balance. Not for: losses (they are part of the step's gradient, train_step.h).
#pragma once

#include <optional>

#include "headway/engine/metrics.h"
#include "headway/engine/train_step.h"
#include "headway/nn/transformer.h"

namespace headway::engine {

/// Nothing for a model without routers.
std::optional<RouterMetrics> router_metrics(const StepLoss& step);

/// Moves the expert bias of every layer that has one and a rate above 0, once per step and by the
/// load of the whole step. Test: tests/unit/engine/router_balance_test.cpp
void balance_experts(nn::Transformer& model, const nn::RoutingRecord& routing);

}  // namespace headway::engine
