// A Gated DeltaNet mixer as a config and a ModelSpec hold it alike, as nothing in it is derived.
// Not for: softmax attention (model_config.h).
// Legend: G key heads, H value heads, K key dim, V value dim, W taps.
#pragma once

#include <cstdint>
#include <optional>

#include "headway/base/enum_table.h"
#include "headway/base/field_rule.h"
#include "headway/config/model_parts.h"

namespace headway::config {

inline constexpr int64_t kMaxConvSize = 64;

/// What the output norm is multiplied with, of the logits z.
enum class DeltaGate { kSilu, kSigmoid, kGeluTanh, kGelu, kRelu };

/// q, k, v <- act(conv(q | k | v)); S <- e^g S + k (β(v - Sᵀ e^g k))ᵀ; out = W(norm(Sᵀq) ∘
/// gate(z)). With `decay_rank` g has a value per key channel (Kimi Delta Attention).
struct GatedDeltaNetConfig {
  int64_t num_key_heads = 0;    // G
  int64_t num_value_heads = 0;  // H, a multiple of G
  int64_t key_head_dim = 0;     // K
  int64_t value_head_dim = 0;   // V
  int64_t conv_size = 4;        // W
  bool conv_bias = false;
  Activation conv_activation = Activation::kSilu;
  DeltaGate gate = DeltaGate::kSilu;
  bool negative_eigenvalues = false;
  std::optional<int64_t> decay_rank;
  std::optional<int64_t> gate_rank;
  NormConfig norm = {.eps = 1e-6};
  bool operator==(const GatedDeltaNetConfig&) const = default;

  template <class V>
  static void fields(V& v) {
    using G = GatedDeltaNetConfig;
    v.field("num_key_heads", &G::num_key_heads, "query and key heads",
            between(1, kMaxHeads).required().divides("num_value_heads"));
    v.field("num_value_heads", &G::num_value_heads, "value heads, each with a state",
            between(1, kMaxHeads).required());
    v.field("key_head_dim", &G::key_head_dim, "channels of a query and key head",
            between(1, kMaxHeadDim).required());
    v.field("value_head_dim", &G::value_head_dim, "channels of a value head",
            between(1, kMaxHeadDim).required());
    v.field("conv_size", &G::conv_size, "taps of the convolution over q, k and v",
            between(1, kMaxConvSize));
    v.field("conv_bias", &G::conv_bias, "bias of the convolution");
    v.field("conv_activation", &G::conv_activation, "behind the convolution");
    v.field("gate", &G::gate, "function of the output gate");
    v.field("negative_eigenvalues", &G::negative_eigenvalues,
            "beta in (0, 2) instead of (0, 1): a state may flip its sign");
    v.field("decay_rank", &G::decay_rank,
            "a decay for every key channel, by a projection of this rank; none = one for a head",
            between(1, kMaxWidth));
    v.field("gate_rank", &G::gate_rank,
            "rank of the output gate's projection; none = straight from the input",
            between(1, kMaxWidth));
    v.field("norm", &G::norm, "of each head's output; kind rms");
  }
};

}  // namespace headway::config

namespace headway {

template <>
struct EnumTable<config::DeltaGate> {
  static constexpr auto kEntries =
      std::to_array<EnumEntry<config::DeltaGate>>({{config::DeltaGate::kSilu, "silu"},
                                                   {config::DeltaGate::kSigmoid, "sigmoid"},
                                                   {config::DeltaGate::kGeluTanh, "gelu_tanh"},
                                                   {config::DeltaGate::kGelu, "gelu"},
                                                   {config::DeltaGate::kRelu, "relu"}});
};

}  // namespace headway
