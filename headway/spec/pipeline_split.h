// Which layers a pipeline stage builds.
// Not for: running a pipeline, or what the layers are.
// Legend: L layers, r pipeline rank of pp, v virtual stage of V, F/B layers of the first/last rank.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "headway/base/problems.h"
#include "headway/spec/block_arguments.h"

namespace headway::spec {

/// Where a stage stands. `vp_stage` must be given when virtual stages are configured.
struct PipelinePlace {
  int64_t pp_rank = 0;
  std::optional<int64_t> vp_stage;
};

/// Reports what does not add up: F/B with accounting, divisibility, a layout beside F/B, ….
/// Source: Megatron-Core TransformerConfig; spec/variants.md §5.6.
void check_pipeline(const BlockArguments& arguments, const std::string& path, Problems& problems);

/// Virtual stages per rank: V, that of the layout, or 1.
int64_t virtual_stages(const BlockArguments& arguments);

/// Number of decoder layers of a stage.
///   even: ((L + emb + loss) / pp) / V, less one where the embedding or the loss sits
///   uneven: F, B, or an equal share of the rest; / V
/// Errors: ConfigError (place out of range, vp_stage missing, split that does not divide).
/// Source: Megatron-Core get_num_layers_to_build.
int64_t get_num_layers_to_build(const BlockArguments& arguments, const PipelinePlace& place);

/// Layers before those of the stage, counted in the order of stages (v, r).
/// Source: Megatron-Core get_transformer_layer_offset.
int64_t get_transformer_layer_offset(const BlockArguments& arguments, const PipelinePlace& place);

/// The stage's layers, from 0: offset, offset + 1, …
/// Property: the slices of all stages tile 0..L-1 (tests/property/spec/pipeline_test.cpp).
std::vector<int64_t> stage_layers(const BlockArguments& arguments, const PipelinePlace& place);

/// Every place in the order (v, r); vp_stage unset without virtual stages.
std::vector<PipelinePlace> pipeline_places(const BlockArguments& arguments);

}  // namespace headway::spec
