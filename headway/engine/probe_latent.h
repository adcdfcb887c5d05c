// What the probes of latent attention share: how the file's arguments become a module of ours.
// Not for: reading tensors by name (probe_input.h).
#pragma once

#include <memory>

#include "headway/engine/probe_input.h"
#include "headway/nn/latent_attention.h"

namespace headway::engine {

/// MLASelfAttention of the file with its parameters; the output bias is left out, as upstream
/// returns it apart.
struct ProbedLatent {
  spec::MegatronConfig config;
  spec::LatentAttentionSpec mixer;
  spec::ModelSpec model;
  std::unique_ptr<nn::Parameters> parameters;
  std::unique_ptr<nn::LatentAttention> module;
};
ProbedLatent make_latent(const ProbeInput& input);

/// Outputs, gradients and what the indexer chose of a made module.
ProbeOutput run_latent(const ProbeInput& input, const ProbedLatent& probed);

/// Whether the file's arguments ask for multi-latent attention.
bool is_latent(const ProbeInput& input);
/// One full forward, the same tokens as a prefill and single steps, and the expanded keys (rotated,
/// halves apart) and values that upstream's static cache holds.
ProbeOutput probe_latent_cache(const ProbeInput& input);

}  // namespace headway::engine
