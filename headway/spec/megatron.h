// The Megatron front door: upstream's argument names to a ModelSpec, and the block specs under
// their upstream function names (block_spec.h).
// Not for: tensors and their row order on disk (io/megatron_layout.h).
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>

#include "headway/base/json.h"
#include "headway/spec/block_spec.h"
#include "headway/spec/megatron_config.h"
#include "headway/spec/model_spec.h"

namespace headway::spec {

/// Reads arguments by their upstream names; `path` starts every message. Aliases:
/// use_head_wise_attn_gate and attention_per_head_gate for head_wise_attn_gate, swiglu for
/// gated_linear_unit with silu, norm_epsilon, apply_layernorm_1p, max_position_embeddings. Fields
/// that change nothing here are accepted. Errors: ConfigError with every problem (rules V1-V30 of
/// spec/attention.md §1.2, unknown keys with the nearest name); else UnsupportedError naming
/// everything asked for that this build cannot run. Test: tests/unit/spec/megatron_test.cpp
MegatronConfig read_megatron(const Json& arguments, const std::string& path = "model.megatron");

/// Window (left, right) of a layer, -1 unbounded; none where the layer sees everything. A layer is
/// windowed iff window_size is set and skip_freq is none, an integer that does not divide
/// `layer_number`, or a list with a true entry for it. Numbers behind the stack are the depths of
/// multi-token prediction, which an integer counts from 1 and a list may leave to its last entry.
/// Units: tokens beside the query itself; layer_number counts from 1. Source: Megatron-Core
/// is_layer_window_attention.
std::optional<std::array<int64_t, 2>> layer_window(const MegatronConfig& config,
                                                   int64_t layer_number);

/// Upstream's mask types. `padding`, `arbitrary` and the padding of `padding_causal` are a boolean
/// tensor (true = hidden) or the boundaries of packed sequences beside the rule.
enum class MegatronMask {
  kPadding,
  kCausal,
  kNoMask,
  kPaddingCausal,
  kArbitrary,
  kCausalBottomRight
};

/// Whether later keys are hidden. Query i of sq sees key j of sk only if j <= i + sk - sq: causal
/// is aligned at the bottom right, as causal_bottom_right says (both agree when sq = sk).
bool is_causal(MegatronMask mask);

/// Whether no_rope_freq leaves layer `layer_number` (from 1) without rotary positions: an integer N
/// means N, 2N, …; a list holds 1 for such layers. Depths of multi-token prediction are left
/// without only by a list that reaches them.
bool layer_skips_rope(const MegatronConfig& config, int64_t layer_number);

/// Self-attention of layer `layer_number` (from 1), which is causal: of a window only the left
/// bound counts. Test: tests/golden/megatron/attention_test.cpp
AttentionSpec layer_attention(const MegatronConfig& config, int64_t layer_number);

/// Every norm of the stack.
NormSpec megatron_norm(const MegatronConfig& config);

/// YaRN's factor of cos and sin: g(s, mscale)/g(s, all_dim) when both are given, else g(s, 1), with
/// g(s, k) = 1 for s <= 1, else 0.1·k·ln s + 1. Source: spec/attention.md §4.4.
double yarn_concentration(double factor, std::optional<double> mscale,
                          std::optional<double> mscale_all_dim);

/// The dense GPT that `config` describes. vocab_size: that of the tokenizer, for arguments without
/// one (0 = there is none). Errors: ConfigError.
ModelSpec megatron_model(const MegatronConfig& config, int64_t vocab_size = 0);

/// megatron_model(read_megatron(arguments), vocab_size).
ModelSpec from_megatron(const Json& arguments, int64_t vocab_size = 0);

}  // namespace headway::spec

namespace headway {

template <>
struct EnumTable<spec::MegatronMask> {
  static constexpr auto kEntries = std::to_array<EnumEntry<spec::MegatronMask>>(
      {{spec::MegatronMask::kPadding, "padding"},
       {spec::MegatronMask::kCausal, "causal"},
       {spec::MegatronMask::kNoMask, "no_mask"},
       {spec::MegatronMask::kNoMask, "none"},
       {spec::MegatronMask::kPaddingCausal, "padding_causal"},
       {spec::MegatronMask::kArbitrary, "arbitrary"},
       {spec::MegatronMask::kCausalBottomRight, "causal_bottom_right"}});
};

}  // namespace headway
