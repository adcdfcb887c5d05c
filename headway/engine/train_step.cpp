// Gradient accumulation, and the same loss without gradients.
// Not for: deciding how many micro-batches a step has (trainer.cpp).
#include "headway/engine/train_step.h"

#include <algorithm>
#include <cmath>

#include <ATen/Functions.h>
#include <ATen/core/grad_mode.h>

#include "headway/engine/non_finite.h"

namespace headway::engine {
namespace {

ops::CrossEntropyResult batch_loss(nn::Transformer& model, const data::Batch& batch,
                                   const nn::LossOptions& options,
                                   const nn::ForwardContext& context) {
  const at::Device device = model.parameters().device();
  nn::ForwardOptions forward;
  forward.context = context;
  const at::Tensor hidden =
      model.forward(batch.input_ids.to(device), ops::packed_sequences(batch.cu_seqlens), forward);
  return model.loss(hidden, batch.labels.to(device), options);
}

}  // namespace

StepLoss accumulate_gradients(nn::Transformer& model, const std::vector<data::Batch>& micro_batches,
                              const StepOptions& given) {
  StepLoss step;
  std::int64_t tokens = 0;
  for (const data::Batch& batch : micro_batches) {
    step.num_counted += batch.label_count;
    tokens += batch.input_ids.numel();
  }
  nn::LossOptions options;
  options.z_loss = given.z_loss;
  std::optional<nn::RandomStream> random = given.random;
  options.divisor = std::max<std::int64_t>(step.num_counted, 1);
  for (const data::Batch& batch : micro_batches) {
    nn::ForwardContext context;
    context.random = random;
    context.routing = &step.routing;
    const ops::CrossEntropyResult result = batch_loss(model, batch, options, context);
    at::Tensor loss = result.loss;
    if (const at::Tensor extra = step.routing.take_loss(); extra.defined()) {
      const at::Tensor share =
          extra * (static_cast<double>(batch.input_ids.numel()) / static_cast<double>(tokens));
      step.auxiliary += share.item<double>();
      loss = loss + share.to(loss.scalar_type());
    }
    if (!std::isfinite(loss.item<double>())) throw_non_finite_loss(model, batch, random);
    if (random) ++random->micro_batch;
    loss.backward();
    model.backward_dw();  // one micro-batch waits at most: that bounds what waiting holds
    if (given.after_backward) given.after_backward();
    step.loss += result.ce.item<double>();
  }
  return step;
}

StepLoss held_out_loss(nn::Transformer& model, const data::PackedSamples& samples,
                       std::int64_t batch_samples) {
  at::NoGradGuard no_grad;
  StepLoss total;
  for (std::int64_t first = 0; first < samples.size(); first += batch_samples) {
    const data::Batch batch = data::make_sequential_batch(samples, first, batch_samples);
    nn::LossOptions options;
    options.divisor = 1;  // sums; divided once at the end
    const double sum = batch_loss(model, batch, options, {}).ce.item<double>();
    if (!std::isfinite(sum)) throw_non_finite_loss(model, batch, std::nullopt);
    total.loss += sum;
    total.num_counted += batch.label_count;
  }
  total.loss /= static_cast<double>(std::max<std::int64_t>(total.num_counted, 1));
  return total;
}

}  // namespace headway::engine
