// From run files to what nn understands. Not for: the rules of the fields (config, spec).
#include "headway/engine/train_mechanics.h"

#include "headway/base/error.h"
#include "headway/spec/megatron_training.h"

namespace headway::engine {

nn::RecomputePlan recompute_plan(const config::RecomputeConfig& recompute, int64_t num_layers) {
  nn::RecomputePlan plan;
  switch (recompute.granularity) {
    case config::RecomputeGranularity::kNone:
      return plan;
    case config::RecomputeGranularity::kSelective:
      for (const config::RecomputeModule module : recompute.modules) {
        switch (module) {
          case config::RecomputeModule::kCoreAttention:
            plan.core_attention = true;
            break;
          case config::RecomputeModule::kLayerNorm:
            plan.norms = true;
            break;
          case config::RecomputeModule::kMlp:
            plan.mlp = true;
            break;
        }
      }
      return plan;
    case config::RecomputeGranularity::kFull: {
      const bool uniform = recompute.method == config::RecomputeMethod::kUniform;
      plan.chunk_layers = uniform ? recompute.num_layers.value() : 1;
      plan.first_layers = uniform ? num_layers : recompute.num_layers.value();
      return plan;
    }
  }
  throw InternalError("[train] recompute granularity is not in the enum");
}

TrainMechanics train_mechanics(const config::RunConfig& run, int64_t num_layers) {
  const config::TrainConfig train = spec::with_megatron_training(run.model.megatron, run.train);
  return {recompute_plan(train.recompute, num_layers), train.delay_wgrad};
}

void apply(const TrainMechanics& mechanics, nn::Transformer& model) {
  model.set_recompute(mechanics.recompute);
  model.set_delay_wgrad(mechanics.delay_wgrad);
}

}  // namespace headway::engine
