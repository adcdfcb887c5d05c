// Parts of a stack beyond attention and MLP, as a run file states them: per-layer embeddings and
// the norms around the two branches of a hybrid MLP.
// Not for: resolved values (spec/per_layer_embedding.h, spec/model_spec.h).
#pragma once

#include <cstdint>
#include <optional>

#include "headway/base/field_rule.h"
#include "headway/config/model_parts.h"

namespace headway::config {

/// A second table that gives every token `size` channels for each layer; a layer adds them to the
/// stream behind a gate.
struct PerLayerEmbeddingConfig {
  static constexpr std::string_view kShorthand = "size";
  int64_t size = 0;                   // P
  std::optional<int64_t> vocab_size;  // none = the model's
  std::optional<double> scale;        // none = sqrt(P)
  Activation activation = Activation::kGeluTanh;
  bool operator==(const PerLayerEmbeddingConfig&) const = default;

  template <class V>
  static void fields(V& v) {
    using P = PerLayerEmbeddingConfig;
    v.field("size", &P::size, "channels for each layer", between(1, kMaxWidth).required());
    v.field("vocab_size", &P::vocab_size, "rows of the table; none = those of the embedding",
            between(1, kMaxVocab));
    v.field("scale", &P::scale, "multiplies the rows; none = sqrt(size)", above(0));
    v.field("activation", &P::activation, "of the gate in every layer");
  }
};

/// A block with `mlp` and `moe` computes both on the same input and adds them up; here are the
/// norms of the two branches.
struct HybridConfig {
  bool dense_pre_norm = false;
  bool dense_post_norm = false;
  bool routed_pre_norm = false;
  bool routed_post_norm = false;
  bool operator==(const HybridConfig&) const = default;

  template <class V>
  static void fields(V& v) {
    using H = HybridConfig;
    v.field("dense_pre_norm", &H::dense_pre_norm, "norm before the dense branch");
    v.field("dense_post_norm", &H::dense_post_norm, "norm after the dense branch");
    v.field("routed_pre_norm", &H::routed_pre_norm,
            "norm before the experts; the router reads what lies before it");
    v.field("routed_post_norm", &H::routed_post_norm, "norm after the experts");
  }
};

}  // namespace headway::config
