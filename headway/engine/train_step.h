// Loss and gradients of one optimizer step, micro-batch by micro-batch.
// Not for: changing weights (optimizer.h) or choosing batches (data/train_loader.h).
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

#include "headway/data/batch.h"
#include "headway/nn/transformer.h"

namespace headway::engine {

struct StepLoss {
  double loss = 0.0;             // mean cross-entropy over counted labels, without z-loss
  double auxiliary = 0.0;        // what the routers' losses added to it
  std::vector<double> mtp;       // the same of every depth of multi-token prediction
  double index = 0.0;            // what the indexers' losses added to it
  std::int64_t num_counted = 0;  // labels that count, over all micro-batches
  std::int64_t num_tokens = 0;   // tokens that were read
  nn::RoutingRecord routing;     // loads of the routers
};

struct StepOptions {
  double z_loss = 0.0;
  /// Stream of everything random; its micro_batch counts those of the step. None = no dropout.
  std::optional<nn::RandomStream> random;
  bool index_warmup = false;  // nn::ForwardContext
  std::function<void()> after_backward;
};

/// Forward and backward over `micro_batches`; gradients add up in the parameters' grad(), which
/// must be empty before. The divisor of every micro-batch is the number of counted labels of all of
/// them, so the sum is the gradient of the mean over the whole step, however it is cut; likewise at
/// every depth of multi-token prediction. Losses of routers and indexers are added to each
/// micro-batch's, weighted by its share of the step's tokens. Errors:
/// NonFiniteError naming the first layer of the forward pass that is not finite. Test:
/// tests/unit/engine/train_step_test.cpp
StepLoss accumulate_gradients(nn::Transformer& model, const std::vector<data::Batch>& micro_batches,
                              const StepOptions& options = {});

/// Mean cross-entropy over the counted labels of `samples`, in stream order, `batch_samples` at a
/// time; records no autograd. Errors: NonFiniteError.
StepLoss held_out_loss(nn::Transformer& model, const data::PackedSamples& samples,
                       std::int64_t batch_samples);

}  // namespace headway::engine
