// Low-rank adapters beside frozen weights, as a run file asks for them.
// Not for: which projections a name means (io/adapter_targets.h).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "headway/base/enum_table.h"
#include "headway/base/field_rule.h"

namespace headway::config {

inline constexpr int64_t kMaxRank = 1 << 16;

/// lora: W + s·B·A. dora: m ∘ (W + s·B·A) / |W + s·B·A|, norms by row.
enum class AdapterKind { kLora, kDora };

/// What trains instead of the weights of `model.hf`. s = alpha / rank, or alpha / sqrt(rank) with
/// rank_stabilized.
struct AdapterConfig {
  static constexpr std::string_view kShorthand = "kind";
  AdapterKind kind = AdapterKind::kLora;
  int64_t rank = 16;
  double alpha = 32.0;
  bool rank_stabilized = false;
  std::vector<std::string> targets = {"*"};
  std::optional<std::string> from;
  bool operator==(const AdapterConfig&) const = default;

  template <class V>
  static void fields(V& v) {
    using A = AdapterConfig;
    v.field("kind", &A::kind, "low-rank pairs, or with trained row magnitudes");
    v.field("rank", &A::rank, "rank of every pair", between(1, kMaxRank));
    v.field("alpha", &A::alpha, "the product of a pair is multiplied by alpha / rank", above(0));
    v.field("rank_stabilized", &A::rank_stabilized,
            "multiplied by alpha / sqrt(rank) instead (rslora)");
    v.field("targets", &A::targets,
            "projections by the family's names: `q_proj`, `self_attn.q_proj`, or globs over whole "
            "names such as `*.layers.3.mlp.*`; `*` = every one that can be adapted",
            Rule().not_empty());
    v.field("from", &A::from, "folder of an adapter in PEFT's format to start from",
            Rule().not_empty());
  }
};

}  // namespace headway::config

namespace headway {

template <>
struct EnumTable<config::AdapterKind> {
  static constexpr auto kEntries = std::to_array<EnumEntry<config::AdapterKind>>(
      {{config::AdapterKind::kLora, "lora"}, {config::AdapterKind::kDora, "dora"}});
};

}  // namespace headway
