// The rows of module names. Not for: what a layer takes from them (block_spec.cpp).
#include "headway/spec/backend_provider.h"

#include <fmt/format.h>

#include "headway/base/error.h"
#include "headway/base/text_util.h"

namespace headway::spec {
namespace {

std::string kitchen_attention(const BlockArguments& arguments) {
  if (!arguments.use_kitchen_attention) return "";
  if (arguments.kitchen_attention_backend == "sdpa") return "KitchenDotProductAttention";
  if (arguments.kitchen_attention_backend == "fa") return "KitchenFlashAttention";
  throw ConfigError(fmt::format("kitchen_attention_backend = {}: allowed sdpa | fa",
                                shorten(arguments.kitchen_attention_backend)));
}

BackendSpecProvider kitchen_entries(const BlockArguments& arguments) {
  BackendSpecProvider kitchen;
  kitchen.linear = "KitchenLinear";
  kitchen.column_parallel_linear = "KitchenColumnParallelLinear";
  kitchen.row_parallel_linear = "KitchenRowParallelLinear";
  kitchen.column_parallel_layer_norm_linear = "KitchenLayerNormColumnParallelLinear";
  kitchen.core_attention = kitchen_attention(arguments);
  kitchen.grouped_experts = {"TEGroupedMLP", "KitchenColumnParallelGroupedLinear",
                             "KitchenRowParallelGroupedLinear"};
  kitchen.sequential_experts = {"SequentialMLP", "KitchenColumnParallelLinear",
                                "KitchenRowParallelLinear"};
  return kitchen;
}

}  // namespace

BackendSpecProvider fused_backend() {
  BackendSpecProvider fused;
  fused.linear = "TELinear";
  fused.column_parallel_linear = "TEColumnParallelLinear";
  fused.row_parallel_linear = "TERowParallelLinear";
  fused.column_parallel_layer_norm_linear = "TELayerNormColumnParallelLinear";
  fused.norm = "TENorm";
  fused.core_attention = "TEDotProductAttention";
  fused.activation_func = "TEActivationOp";
  fused.grouped_experts = {"TEGroupedMLP", "TEColumnParallelGroupedLinear",
                           "TERowParallelGroupedLinear"};
  fused.sequential_experts = {"SequentialMLP", "TEColumnParallelLinear", "TERowParallelLinear"};
  return fused;
}

BackendSpecProvider composed_backend() {
  BackendSpecProvider composed;
  composed.linear = "Linear";
  composed.column_parallel_linear = "ColumnParallelLinear";
  composed.row_parallel_linear = "RowParallelLinear";
  composed.norm = "WrappedTorchNorm";
  composed.core_attention = "DotProductAttention";
  composed.sequential_experts = {"SequentialMLP", "ColumnParallelLinear", "RowParallelLinear"};
  return composed;
}

BackendSpecProvider wrapping_backend(const BackendSpecProvider& over,
                                     const BackendSpecProvider& base) {
  const auto pick = [](const std::string& name, const std::string& otherwise) {
    return name.empty() ? otherwise : name;
  };
  BackendSpecProvider result;
  result.linear = pick(over.linear, base.linear);
  result.column_parallel_linear = pick(over.column_parallel_linear, base.column_parallel_linear);
  result.row_parallel_linear = pick(over.row_parallel_linear, base.row_parallel_linear);
  result.column_parallel_layer_norm_linear =
      base.fuse_layernorm_and_linear()
          ? pick(over.column_parallel_layer_norm_linear, base.column_parallel_layer_norm_linear)
          : "";
  result.norm = pick(over.norm, base.norm);
  result.core_attention = pick(over.core_attention, base.core_attention);
  result.activation_func = pick(over.activation_func, base.activation_func);
  result.grouped_experts =
      over.grouped_experts.experts.empty() ? base.grouped_experts : over.grouped_experts;
  result.sequential_experts =
      over.sequential_experts.experts.empty() ? base.sequential_experts : over.sequential_experts;
  return result;
}

BackendSpecProvider _get_backend_spec_provider(const BlockArguments& arguments) {
  if (arguments.transformer_impl != "transformer_engine") {
    throw ConfigError(
        fmt::format("transformer_impl = {}: allowed transformer_engine for blocks "
                    "with experimental attention variants; pass a backend for others",
                    shorten(arguments.transformer_impl)));
  }
  if (!arguments.use_kitchen) return fused_backend();
  return wrapping_backend(kitchen_entries(arguments), fused_backend());
}

}  // namespace headway::spec
