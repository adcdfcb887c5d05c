// See router_balance.h. Not for: routing.
#include "headway/engine/router_balance.h"

#include <algorithm>
#include <string>

#include <ATen/Functions.h>

#include "headway/nn/moe.h"

namespace headway::engine {

std::optional<RouterMetrics> router_metrics(const StepLoss& step) {
  if (step.routing.layers().empty()) return std::nullopt;
  RouterMetrics metrics;
  metrics.auxiliary_loss = step.auxiliary;
  for (const auto& [index, layer] : step.routing.layers()) {
    const double mean = layer.load_E.mean().item<double>();
    metrics.layers.push_back(index);
    metrics.load.push_back(mean > 0 ? layer.load_E.max().item<double>() / mean : 0.0);
    const auto tokens = static_cast<double>(std::max<std::int64_t>(layer.tokens, 1));
    metrics.entropy.push_back(layer.entropy / tokens);
    const auto choices = static_cast<double>(std::max<std::int64_t>(layer.choices, 1));
    metrics.drop_rate.push_back(static_cast<double>(layer.dropped) / choices);
  }
  return metrics;
}

void balance_experts(nn::Transformer& model, const nn::RoutingRecord& routing) {
  for (const auto& [index, layer] : routing.layers()) {
    const spec::MoeSpec* moe = spec::moe_of(spec::block_at(model.spec(), index));
    if (moe == nullptr || !moe->router.expert_bias || moe->router.bias_update_rate == 0) continue;
    const spec::LayerSpec& block = spec::block_at(model.spec(), index);
    const bool hybrid = std::holds_alternative<spec::HybridMlpSpec>(block.mlp);
    const std::string name = spec::block_scope(model.spec(), index) +
                             (hybrid ? "mlp.routed" : "mlp") + ".router.expert_bias";
    nn::update_expert_bias(model.parameters().get(name), layer.load_E,
                           moe->router.bias_update_rate);
  }
}

}  // namespace headway::engine
