// Low-rank adapters of a model's projections: taken from the inventory by nn::Linear, set up here.
// Not for: arithmetic (ops/low_rank_linear.h) or files (io/adapter.h).
#pragma once

#include <memory>

#include "headway/nn/parameters.h"
#include "headway/ops/low_rank_linear.h"

namespace headway::nn {

/// The pairs beside the projection of `scope` (adapter.{a,b,magnitude}); null where the inventory
/// lists none.
std::shared_ptr<const ops::LowRank> low_rank_of(const ParameterScope& scope);

/// Sets every dora magnitude to the norms of the rows it stands for, so that the adapter changes
/// nothing yet. After the weights and the pairs have their values.
void reset_magnitudes(Parameters& parameters);

}  // namespace headway::nn
