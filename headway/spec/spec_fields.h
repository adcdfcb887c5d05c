// The field lists of every struct of a ModelSpec: JSON in and out, ranges, diff.
// Kept out of model_spec.h so that code which only reads a spec does not compile the machinery.
// Not for: rules over several fields (validate.cpp).
#pragma once

#include "headway/base/fields.h"
#include "headway/spec/model_spec.h"

namespace headway {

template <>
struct VariantNames<spec::MixerSpec> {
  static constexpr std::array<std::string_view, 3> kNames = {"attention", "gated_delta_net",
                                                             "latent_attention"};
};
template <>
struct VariantNames<spec::MlpSpec> {
  static constexpr std::array<std::string_view, 3> kNames = {"dense", "moe", "hybrid"};
};

template <>
struct FieldsOf<spec::AttentionSpec> {
  template <class V>
  static void visit(V& v) {
    using A = spec::AttentionSpec;
    v.field("num_heads", &A::num_heads, "H", between(1, config::kMaxHeads).required());
    v.field("num_kv_heads", &A::num_kv_heads, "G",
            between(1, config::kMaxHeads).required().divides("num_heads"));
    v.field("head_dim", &A::head_dim, "K", between(1, config::kMaxHeadDim).required());
    v.field("v_head_dim", &A::v_head_dim, "V", between(1, config::kMaxHeadDim).required());
    v.field("rope", &A::rope, "rotary positions");
    v.field("mask", &A::mask, "which keys a query sees");
    v.field("window", &A::window, "tokens seen, itself included", between(1, config::kMaxTokens));
    v.field("window_ahead", &A::window_ahead, "tokens seen after the query",
            between(0, config::kMaxTokens));
    v.field("scale", &A::scale, "multiplies q·k", above(0).required());
    v.field("logit_softcap", &A::logit_softcap, "soft cap of the scores", above(0));
    v.field("sinks", &A::sinks, "extra softmax logit");
    v.field("dropout", &A::dropout, "of probabilities, in training", from_below(0, 1));
    v.field("q_norm", &A::q_norm, "norm of each query head");
    v.field("k_norm", &A::k_norm, "norm of each key head");
    v.field("v_norm", &A::v_norm, "norm of each value head");
    v.field("shared_key_value", &A::shared_key_value, "values are the key projection");
    v.field("kv_source", &A::kv_source, "layer whose keys and values are read",
            between(0, config::kMaxLayers));
    v.field("bidirectional_spans", &A::bidirectional_spans, "tokens of one image see each other");
    v.field("qk_norm_across_heads", &A::qk_norm_across_heads, "q/k norms over all heads at once");
    v.field("gate", &A::gate, "output gate");
    v.field("qkv_bias", &A::qkv_bias, "biases of q, k, v");
    v.field("gate_bias", &A::gate_bias, "bias of the gate rows");
    v.field("output_bias", &A::output_bias, "bias of the output projection");
  }
};

template <>
struct FieldsOf<spec::HybridMlpSpec> {
  template <class V>
  static void visit(V& v) {
    using H = spec::HybridMlpSpec;
    v.field("dense", &H::dense, "the dense branch", Rule().required());
    v.field("routed", &H::routed, "the mixture of experts beside it", Rule().required());
    v.field("dense_pre_norm", &H::dense_pre_norm, "before the dense branch");
    v.field("dense_post_norm", &H::dense_post_norm, "after the dense branch");
    v.field("routed_pre_norm", &H::routed_pre_norm, "before the experts");
    v.field("routed_post_norm", &H::routed_post_norm, "after the experts");
  }
};

template <>
struct FieldsOf<spec::PerLayerEmbeddingSpec> {
  template <class V>
  static void visit(V& v) {
    using P = spec::PerLayerEmbeddingSpec;
    v.field("vocab_size", &P::vocab_size, "rows", between(1, config::kMaxVocab).required());
    v.field("size", &P::size, "channels for a layer", between(1, config::kMaxWidth).required());
    v.field("scale", &P::scale, "multiplies the rows", above(0));
    v.field("scale_rounding", &P::scale_rounding, "exact, or in the weights' dtype");
    v.field("context_scale", &P::context_scale, "multiplies the projection", above(0));
    v.field("mix_scale", &P::mix_scale, "multiplies the sum of both", above(0));
    v.field("norm", &P::norm, "of the projection");
    v.field("padding_id", &P::padding_id, "row without gradient", at_least(0));
  }
};

template <>
struct FieldsOf<spec::PerLayerInputSpec> {
  template <class V>
  static void visit(V& v) {
    using P = spec::PerLayerInputSpec;
    v.field("activation", &P::activation, "of the gate");
    v.field("norm", &P::norm, "after the output projection");
  }
};

template <>
struct FieldsOf<spec::LayerSpec> {
  template <class V>
  static void visit(V& v) {
    using L = spec::LayerSpec;
    v.field("block", &L::block, "name in the config");
    v.field("mixer", &L::mixer, "token mixer", Rule().required());
    v.field("mlp", &L::mlp, "feed-forward part", Rule().required());
    v.field("pre_mixer_norm", &L::pre_mixer_norm, "before the mixer");
    v.field("post_mixer_norm", &L::post_mixer_norm, "after the mixer");
    v.field("pre_mlp_norm", &L::pre_mlp_norm, "before the MLP");
    v.field("post_mlp_norm", &L::post_mlp_norm, "after the MLP");
    v.field("per_layer_input", &L::per_layer_input, "gated channels of the per-layer embedding");
    v.field("layer_scalar", &L::layer_scalar, "stored scalar on the output");
  }
};

template <>
struct FieldsOf<spec::EmbeddingSpec> {
  template <class V>
  static void visit(V& v) {
    using E = spec::EmbeddingSpec;
    v.field("vocab_size", &E::vocab_size, "rows", between(1, config::kMaxVocab).required());
    v.field("scale", &E::scale, "multiplies the rows", above(0));
    v.field("scale_rounding", &E::scale_rounding, "exact, or in the weights' dtype");
    v.field("padding_id", &E::padding_id, "row without gradient", at_least(0));
  }
};

template <>
struct FieldsOf<spec::HeadSpec> {
  template <class V>
  static void visit(V& v) {
    using H = spec::HeadSpec;
    v.field("tied", &H::tied, "the embedding transposed");
    v.field("softcap", &H::softcap, "soft cap of the logits", above(0));
    v.field("final_norm", &H::final_norm, "before the head");
  }
};

template <>
struct FieldsOf<spec::MtpSpec> {
  template <class V>
  static void visit(V& v) {
    using M = spec::MtpSpec;
    v.field("layers", &M::layers, "of each depth", Rule().required().not_empty());
    v.field("shared_weights", &M::shared_weights, "all depths use the weights of the first");
    v.field("hidden", &M::hidden, "what a depth reads");
    v.field("embedding_norm", &M::embedding_norm, "of the embedding");
    v.field("hidden_norm", &M::hidden_norm, "of the hidden state");
    v.field("final_norm", &M::final_norm, "before the head");
    v.field("own_head", &M::own_head, "instead of the model's");
    v.field("detach", &M::detach, "losses train the depths alone");
    v.field("loss_scale", &M::loss_scale, "of the mean loss", at_least(0));
  }
};

template <>
struct FieldsOf<spec::ModelSpec> {
  template <class V>
  static void visit(V& v) {
    using M = spec::ModelSpec;
    v.field("hidden_size", &M::hidden_size, "D", between(1, config::kMaxWidth).required());
    v.field("max_positions", &M::max_positions, "longest context; 0 = not stated",
            between(0, config::kMaxTokens));
    v.field("embedding", &M::embedding, "input", Rule().required());
    v.field("per_layer_embedding", &M::per_layer_embedding, "a second input of every layer");
    v.field("layers", &M::layers, "the stack", Rule().required().not_empty());
    v.field("head", &M::head, "output");
    v.field("mtp", &M::mtp, "multi-token prediction");
    v.field("init", &M::init, "initialisation");
    v.field("rope_precision", &M::rope_precision, "of the rotary frequencies");
    v.field("rope_per_layer", &M::rope_per_layer, "every layer owns its rotary table");
  }
};

}  // namespace headway
