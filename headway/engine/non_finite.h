// Finds where numbers stopped being finite, once a loss is not.
// Not for: gradients (Optimizer::clip), or watching every step (that costs a forward pass).
#pragma once

#include <optional>

#include "headway/data/batch.h"
#include "headway/nn/transformer.h"

namespace headway::engine {

/// Repeats the forward pass of `batch`, with what it drew (`random`), and throws NonFiniteError
/// naming the first place that is not finite: a parameter, the embedding of a token, the output of
/// `layers.i`, the final norm, the loss.
[[noreturn]] void throw_non_finite_loss(nn::Transformer& model, const data::Batch& batch,
                                        const std::optional<nn::RandomStream>& random);

}  // namespace headway::engine
