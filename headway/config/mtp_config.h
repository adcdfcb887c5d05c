// Multi-token prediction as a run file asks for it: how many tokens ahead, by which block.
// Not for: the layers themselves; spec::resolve states each depth's.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>

#include "headway/base/enum_table.h"
#include "headway/base/field_rule.h"

namespace headway::config {

/// Depths that can be trained, and tokens that can be drafted at once.
inline constexpr int64_t kMaxMtpDepths = 64;

/// What the stack hands to the first depth and each depth to the next: the hidden state behind its
/// final norm, or the residual stream before it.
enum class MtpHidden { kNormed, kResidual };

struct MtpConfig {
  static constexpr std::string_view kShorthand = "depths";
  int64_t depths = 1;
  std::optional<std::string> block;  // none = the block of the last layer with attention
  bool shared_weights = false;
  bool own_head = false;
  MtpHidden hidden = MtpHidden::kNormed;
  bool detach = false;
  double loss_scale = 0.1;
  bool operator==(const MtpConfig&) const = default;

  template <class V>
  static void fields(V& v) {
    using M = MtpConfig;
    v.field("depths", &M::depths, "tokens predicted behind the next one",
            between(1, kMaxMtpDepths));
    v.field("block", &M::block,
            "block of every depth; none = that of the last layer with attention");
    v.field("shared_weights", &M::shared_weights, "all depths use the weights of the first");
    v.field("own_head", &M::own_head, "every depth has a head of its own, never tied");
    v.field("hidden", &M::hidden, "what a depth reads: behind the final norm before it, or before");
    v.field("detach", &M::detach,
            "no gradient of these losses reaches the stack, the embedding or the shared head");
    v.field("loss_scale", &M::loss_scale, "weight of the mean loss of all depths", at_least(0));
  }
};

}  // namespace headway::config

namespace headway {

template <>
struct EnumTable<config::MtpHidden> {
  static constexpr auto kEntries = std::to_array<EnumEntry<config::MtpHidden>>(
      {{config::MtpHidden::kNormed, "normed"}, {config::MtpHidden::kResidual, "residual"}});
};

}  // namespace headway
