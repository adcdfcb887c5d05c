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
                                    "gated_delta_net")) {}

GatedDeltaNetSpec delta_shard(const GatedDeltaNetSpec& spec, int64_t size) {
  if (size < 1 || spec.num_key_heads % size != 0 || spec.num_value_heads % size != 0) {
    throw ConfigError(fmt::format(
        "[gated_delta_net] tensor parallel size = {}, allowed a divisor of num_key_heads (= {}) "
        "and num_value_heads (= {})",
        size, spec.num_key_heads, spec.num_value_heads));
  }
  GatedDeltaNetSpec shard = spec;
  shard.num_key_heads /= size;
  shard.num_value_heads /= size;
  return shard;
}

}  // namespace headway::spec
