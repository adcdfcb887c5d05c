// Euclidean norm over many gradients in one pass. Not for: clipping (optimizer.h).
#pragma once

#include <vector>

#include <ATen/core/Tensor.h>

namespace headway::engine {

/// sqrt(Σ g²) over all elements of all tensors (undefined ones are skipped): sums of blocks of
/// fixed size in double, combined in order, so neither threads nor their number change a bit of it.
/// Not finite exactly when some element is not (or the sum of squares exceeds a double).
double gradient_norm(const std::vector<at::Tensor>& gradients);

}  // namespace headway::engine
