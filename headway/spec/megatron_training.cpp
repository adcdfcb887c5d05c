// Megatron's names of recompute and delayed weight gradients. Not for: their rules
// (megatron_runtime_check.cpp).
#include "headway/spec/megatron_training.h"

#include "headway/base/error.h"
#include "headway/base/fields.h"
#include "headway/spec/megatron.h"

namespace headway::spec {
namespace {

config::RecomputeConfig recompute_of(const MegatronConfig& c) {
  config::RecomputeConfig recompute;
  if (!c.recompute_granularity) return recompute;
  recompute.granularity =
      enum_parse<config::RecomputeGranularity>(*c.recompute_granularity).value();
  if (recompute.granularity == config::RecomputeGranularity::kFull) {
    recompute.method = enum_parse<config::RecomputeMethod>(c.recompute_method.value());
    recompute.num_layers = c.recompute_num_layers;
  } else if (c.recompute_modules) {
    recompute.modules.clear();
    for (const std::string& name : *c.recompute_modules) {
      recompute.modules.push_back(enum_parse<config::RecomputeModule>(name).value());
    }
  }
  return recompute;
}

}  // namespace

config::TrainConfig with_megatron_training(const Json& arguments,
                                           const config::TrainConfig& train) {
  if (arguments.is_null()) return train;
  const MegatronConfig given = read_megatron(arguments);
  config::TrainConfig merged = train;
  const config::RecomputeConfig recompute = recompute_of(given);
  const bool silent = recompute.granularity == config::RecomputeGranularity::kNone;
  if (!silent && train.recompute != config::RecomputeConfig{} && train.recompute != recompute) {
    throw ConfigError("train.recompute = " + json_summary(write_fields(train.recompute)) +
                      ": contradicts model.megatron.recompute_granularity = " +
                      *given.recompute_granularity + " and its fields; hint: set one of them");
  }
  if (!silent) merged.recompute = recompute;
  merged.delay_wgrad = train.delay_wgrad || given.delay_wgrad_compute;
  return merged;
}

bool megatron_test_mode(const Json& arguments) {
  return !arguments.is_null() && read_megatron(arguments).test_mode;
}

}  // namespace headway::spec
