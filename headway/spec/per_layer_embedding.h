// What a per-layer embedding is: a table with channels of its own for every layer that takes part,
// a projection of the token embedding beside it, and the gate that adds them to a layer's stream.
// Not for: tensors (nn/per_layer_embedding.h).
// Legend: T tokens, D hidden, P channels for a layer, N layers that take part, n their number.
#pragma once

#include <cstdint>
#include <optional>

#include "headway/config/model_parts.h"

namespace headway::spec {

/// Once a forward pass, e being the (scaled) token embeddings and A [V, N·P] the table:
///   i = scale · A[ids]                      c = norm(context_scale · e Bᵀ), each P channels alone
///   u = mix_scale · (c + i)      [T,N,P]
struct PerLayerEmbeddingSpec {
  int64_t vocab_size = 0;
  int64_t size = 0;  // P
  double scale = 1.0;
  config::ScaleRounding scale_rounding = config::ScaleRounding::kExact;
  double context_scale = 1.0;
  double mix_scale = 1.0;
  config::NormConfig norm;
  std::optional<int64_t> padding_id;  // its row gets no gradient from the look-up
  bool operator==(const PerLayerEmbeddingSpec&) const = default;
};

/// In a layer that takes part, after the MLP and before the layer scalar:
///   h += norm( (act(h Gᵀ) ∘ u_n) Oᵀ ),  G [P,D], O [D,P]
struct PerLayerInputSpec {
  config::Activation activation = config::Activation::kGeluTanh;
  std::optional<config::NormConfig> norm;
  bool operator==(const PerLayerInputSpec&) const = default;
};

}  // namespace headway::spec
