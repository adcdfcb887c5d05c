// Small models for tests, each switching on other parts of a ModelSpec.
// Not for: numbers of real checkpoints (those are in tests/golden).
#pragma once

#include <string>
#include <vector>

#include "headway/spec/model_spec.h"

namespace headway::test {

/// Plain Llama shape: full causal layers, rope, RMS pre-norms, gated SiLU.
spec::ModelSpec tiny_llama(int64_t layers = 2);

/// Step-3.5 shape: full and sliding layers of other head counts, head-wise gates, q/k norms,
/// zero-centred norms, partial rotary with llama3 scaling on full layers.
spec::ModelSpec tiny_step();

/// Gemma shape: sandwich norms, layer scalars, soft caps, tied head, embedding scale, proportional
/// rotary, GELU.
spec::ModelSpec tiny_gemma();

/// Everything else at once: LayerNorm with bias, biases, sinks, element-wise gate, unequal value
/// heads, interleaved rope, plain MLP, a layer without rope.
spec::ModelSpec tiny_odd();

/// Mixtures of experts: softmax routing with a gated shared expert; sigmoid routing with groups,
/// expert bias, scaling and limits; a latent width, biases and raw weights; a dense layer between.
spec::ModelSpec tiny_moe();

/// Gated DeltaNet layers of every kind (head ratios, widths, convolution biases and activations,
/// gates, doubled beta) beside a full one.
spec::ModelSpec tiny_hybrid();

/// tiny_step with two depths of multi-token prediction, a windowed and a full layer, and a head of
/// their own. Not among tiny_specs(): the loss of the next token reaches none of it.
spec::ModelSpec tiny_mtp();

/// Latent attention of every kind over all keys: queries with and without a latent, YaRN with
/// mscale, biases, no norms, no positions; a mixture of experts.
spec::ModelSpec tiny_latent();

/// Latent attention over chosen keys: layers that choose and layers that share, a dense one
/// between; not in tiny_specs(), as whole layers of it are not recomputed.
spec::ModelSpec tiny_sparse();

/// Scale of a layer's scores, of either kind of softmax attention.
void set_attention_scale(spec::LayerSpec& layer, double scale);

/// Gemma 4 shape: per-layer embeddings in some layers, fixed value norms, one projection for keys
/// and values, layers that read keys and values of others, one of them with a smaller window.
spec::ModelSpec tiny_gemma4();

/// A dense MLP beside experts with every part of a router's input, norms of both branches, and
/// without them; keys and values read across.
spec::ModelSpec tiny_branches();

struct NamedSpec {
  std::string name;
  spec::ModelSpec spec;
};
std::vector<NamedSpec> tiny_specs();
/// Those whose layers all keep keys and values.
std::vector<NamedSpec> tiny_attention_specs();

/// Models whose state may lie in pages: those, tiny_latent() and tiny_sparse().
std::vector<NamedSpec> tiny_paged_specs();

}  // namespace headway::test
