// Not for: anything but gated_delta_net.h.
#include "headway/spec/gated_delta_net.h"

#include <fmt/format.h>

#include "headway/base/checked_math.h"
#include "headway/base/error.h"

namespace headway::spec {

DeltaWidths::DeltaWidths(const GatedDeltaNetSpec& spec)
    : keys(checked_mul<ConfigError>(spec.num_key_heads, spec.key_head_dim, "gated_delta_net")),
      values(
          checked_mul<ConfigError>(spec.num_value_heads, spec.value_head_dim, "gated_delta_net")),
      conv(checked_add<ConfigError>(checked_mul<ConfigError>(2, keys, "gated_delta_net"), values,
                                    "gated_delta_net")),
      decays(spec.decay_rank ? checked_mul<ConfigError>(spec.num_value_heads, spec.key_head_dim,
                                                        "gated_delta_net")
                             : spec.num_value_heads),
      gate_rows(spec.gate_rank.value_or(values)),
      decay_rows(spec.decay_rank.value_or(spec.num_value_heads)) {}

GatedDeltaNetSpec delta_shard(const GatedDeltaNetSpec& spec, int64_t size) {
  if (size < 1 || spec.num_key_heads % size != 0 || spec.num_value_heads % size != 0) {
    throw ConfigError(fmt::format(
        "[gated_delta_net] tensor parallel size = {}, allowed a divisor of num_key_heads (= {}) "
        "and num_value_heads (= {})",
        size, spec.num_key_heads, spec.num_value_heads));
  }
  if (spec.decay_rank || spec.gate_rank) {
    throw UnsupportedError(
        "[gated_delta_net] decay_rank or gate_rank = set: ranks cannot share a low-rank projection "
        "in this build; allowed none");
  }
  GatedDeltaNetSpec shard = spec;
  shard.num_key_heads /= size;
  shard.num_value_heads /= size;
  return shard;
}

}  // namespace headway::spec
