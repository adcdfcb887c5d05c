// What training forgets in the forward pass and computes again in the backward pass.
// Not for: how (nn/recompute.h).
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "headway/base/enum_table.h"
#include "headway/base/field_rule.h"

namespace headway::config {

enum class RecomputeGranularity { kNone, kSelective, kFull };
enum class RecomputeMethod { kUniform, kBlock };
enum class RecomputeModule { kCoreAttention, kLayerNorm, kMlp };

/// `selective` recomputes the named parts of every layer; `full` whole layers: `uniform` in chunks
/// of num_layers (only the input of a chunk is kept), `block` each of the first num_layers layers.
struct RecomputeConfig {
  static constexpr std::string_view kShorthand = "granularity";
  RecomputeGranularity granularity = RecomputeGranularity::kNone;
  std::vector<RecomputeModule> modules = {RecomputeModule::kCoreAttention};
  std::optional<RecomputeMethod> method;
  std::optional<int64_t> num_layers;
  bool operator==(const RecomputeConfig&) const = default;

  template <class V>
  static void fields(V& v) {
    using R = RecomputeConfig;
    v.field("granularity", &R::granularity,
            "computes activations again in the backward pass instead of keeping them: nothing, "
            "chosen modules, or whole layers");
    v.field("modules", &R::modules, "what selective computes again in every layer",
            Rule().not_empty());
    v.field("method", &R::method,
            "of full: chunks of num_layers layers, or the first num_layers layers one by one");
    v.field("num_layers", &R::num_layers, "of full", at_least(1));
  }
};

}  // namespace headway::config

namespace headway {

template <>
struct EnumTable<config::RecomputeGranularity> {
  static constexpr auto kEntries = std::to_array<EnumEntry<config::RecomputeGranularity>>(
      {{config::RecomputeGranularity::kNone, "none"},
       {config::RecomputeGranularity::kSelective, "selective"},
       {config::RecomputeGranularity::kFull, "full"}});
};
template <>
struct EnumTable<config::RecomputeMethod> {
  static constexpr auto kEntries = std::to_array<EnumEntry<config::RecomputeMethod>>(
      {{config::RecomputeMethod::kUniform, "uniform"}, {config::RecomputeMethod::kBlock, "block"}});
};
template <>
struct EnumTable<config::RecomputeModule> {
  static constexpr auto kEntries = std::to_array<EnumEntry<config::RecomputeModule>>(
      {{config::RecomputeModule::kCoreAttention, "core_attn"},
       {config::RecomputeModule::kLayerNorm, "layernorm"},
       {config::RecomputeModule::kMlp, "mlp"}});
};

}  // namespace headway
