// Megatron's arguments of linear attention: typed fields, their rules, and the GatedDeltaNetSpec
// they mean. Not for: softmax attention (megatron_config.h).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "headway/base/field_rule.h"
#include "headway/base/json.h"
#include "headway/base/problems.h"
#include "headway/spec/model_spec.h"

namespace headway::spec {

struct MegatronConfig;

struct MegatronLinear {
  std::optional<std::string> experimental_attention_variant;
  std::optional<std::string> linear_attention_type;  // its older name
  Json linear_attention_freq;  // N: all but layers N, 2N, …; or a list of 0 | 1
  int64_t linear_conv_kernel_dim = 4;
  int64_t linear_key_head_dim = 128;
  int64_t linear_value_head_dim = 128;
  int64_t linear_num_key_heads = 16;
  int64_t linear_num_value_heads = 32;
  bool operator==(const MegatronLinear&) const = default;

  template <class V>
  static void visit(V& v) {
    using L = MegatronLinear;
    v.field("experimental_attention_variant", &L::experimental_attention_variant,
            "gated_delta_net | gdn | dsa");
    v.field("linear_attention_type", &L::linear_attention_type,
            "older name of experimental_attention_variant");
    v.field("linear_attention_freq", &L::linear_attention_freq, "which layers are linear");
    v.field("linear_conv_kernel_dim", &L::linear_conv_kernel_dim, "taps",
            between(1, config::kMaxConvSize));
    v.field("linear_key_head_dim", &L::linear_key_head_dim, "K", between(1, config::kMaxHeadDim));
    v.field("linear_value_head_dim", &L::linear_value_head_dim, "V",
            between(1, config::kMaxHeadDim));
    v.field("linear_num_key_heads", &L::linear_num_key_heads, "G", between(1, config::kMaxHeads));
    v.field("linear_num_value_heads", &L::linear_num_value_heads, "H",
            between(1, config::kMaxHeads));
  }
};

/// Rules of spec/variants.md §1.1 and §5.2; what is allowed upstream and missing here adds a line
/// to `unsupported`.
void check_megatron_linear(const MegatronConfig& config, const std::string& path,
                           Problems& problems, std::vector<std::string>& unsupported);

/// Whether layer `layer_number` (from 1) is linear: linear_attention_freq N means all layers but N,
/// 2N, …
bool layer_is_linear(const MegatronConfig& config, int64_t layer_number);

/// The mixer of the linear layers: activations are activation_func, the output norm is of the
/// stack's kind. Test: tests/unit/spec/megatron_linear_test.cpp
GatedDeltaNetSpec megatron_delta_net(const MegatronConfig& config);

}  // namespace headway::spec
