// Stacks as Megatron-Core's experimental-attention block builder describes them: attention and MLP
// pattern, one module spec per layer, one pipeline slice. Function names are upstream's.
// Not for: a ModelSpec with sizes (megatron.h makes that from the same arguments).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "headway/spec/backend_provider.h"
#include "headway/spec/block_arguments.h"
#include "headway/spec/module_spec.h"
#include "headway/spec/pipeline_split.h"

namespace headway::spec {

/// An attention or MLP module and whether its norm is inside its first projection.
struct FusedModule {
  SharedModule spec;
  bool fuses_norm = false;
};

using OptionalBackend = std::optional<BackendSpecProvider>;  // none = _get_backend_spec_provider

/// True for gated_delta_net and its other name gdn. Never throws.
bool is_linear_attention_variant(const std::optional<std::string>& variant);

/// 1 = linear attention, 0 = softmax attention, one entry per layer. An integer N makes layer i
/// (from 0) softmax iff (i+1) % N == 0; a list is taken as it is; none is all 0 for variants that
/// are not linear. Errors: ConfigError "Invalid linear_attention_freq", "Invalid length of
///   linear_attention_pattern", entries other than 0 and 1. Source: spec/variants.md §5.2.
std::vector<int64_t> get_linear_attention_pattern(const BlockArguments& arguments);

/// 1 = mixture of experts, 0 = dense. An integer N makes layer i routed iff i % N == 0.
/// Errors: as above with moe_layer_freq and moe_layer_pattern. Source: spec/variants.md §5.3.
std::vector<int64_t> get_moe_layer_pattern(const BlockArguments& arguments);

/// Gated DeltaNet: in_proj, out_norm, out_proj. Its norm is fused where the backend fuses.
SharedModule get_gated_delta_net_module_spec(const BlockArguments& arguments,
                                             const OptionalBackend& backend = std::nullopt);

/// DeepSeek sparse attention over absorbed MLA. Errors: ConfigError without
/// multi_latent_attention, or with qk_l2_norm.
SharedModule get_dsa_module_spec_for_backend(const BlockArguments& arguments,
                                             const OptionalBackend& backend = std::nullopt);

/// The spec of experimental_attention_variant. Errors: ConfigError "Invalid experimental attention
/// variant" for none and for unknown names.
SharedModule get_experimental_attention_variant_module_spec(
    const BlockArguments& arguments, const OptionalBackend& backend = std::nullopt);

/// Softmax attention, or MLA with multi_latent_attention (whose norm is never fused).
SharedModule _get_self_attention_module_spec(const BlockArguments& arguments,
                                             const OptionalBackend& backend = std::nullopt);

FusedModule _get_dense_mlp_module_spec(const BlockArguments& arguments,
                                       const OptionalBackend& backend = std::nullopt);
FusedModule _get_moe_module_spec(const BlockArguments& arguments,
                                 const OptionalBackend& backend = std::nullopt);

/// All layers of the model, each kind of module built once and shared. Only kinds that occur in the
/// whole pattern are built, so an error of a kind appears on every rank.
std::vector<TransformerLayerModule> get_transformer_layer_with_experimental_attention_variant_spec(
    const BlockArguments& arguments, const OptionalBackend& backend = std::nullopt);

/// The slice of one pipeline stage. Errors: those of the patterns, modules and pipeline_split.h;
///   UnsupportedError when a layer with shared sparse indices has their source on another slice.
/// Source: Megatron-Core get_transformer_block_with_experimental_attention_variant_spec,
///   spec/variants.md §5. Test: tests/golden/spec/block_spec_test.cpp
TransformerBlockSubmodules get_transformer_block_with_experimental_attention_variant_spec(
    const BlockArguments& arguments, const PipelinePlace& place = {},
    const OptionalBackend& backend = std::nullopt);

/// The decoder layer whose modules multi-token prediction repeats: the last one with softmax
/// attention, from 0; none where every layer is linear.
std::optional<int64_t> mtp_source_layer(const BlockArguments& arguments);

/// Layer (from 1) whose top-k indices layer `layer_number` uses; itself where it computes them.
///   off = max(offset, 1); L <= off: L; else L - ((L - off) mod freq)
int64_t dsa_index_source(const BlockArguments& arguments, int64_t layer_number);

/// {"pp_rank", "vp_stage", "layers", "final_layer_norm"} of a slice.
Json slice_json(const TransformerBlockSubmodules& block, const PipelinePlace& place);

}  // namespace headway::spec
