// Gradient accumulation, and the same loss without gradients.
// Not for: deciding how many micro-batches a step has (trainer.cpp).
#include "headway/engine/train_step.h"

#include <algorithm>
#include <cmath>

#include <ATen/Functions.h>
#include <ATen/core/grad_mode.h>

#include "headway/engine/non_finite.h"
#include "headway/nn/mtp_loss.h"

namespace headway::engine {
namespace {

/// Divisors of the losses of a micro-batch.
struct Divisors {
  std::int64_t loss = 0;
  std::vector<std::int64_t> mtp;  // by depth
};

struct BatchLoss {
  at::Tensor loss;             // with z-loss and what further depths add
  double cross_entropy = 0.0;  // of the stack alone
  std::vector<double> mtp;     // by depth
};

BatchLoss batch_loss(nn::Transformer& model, const data::Batch& batch, double z_loss,
                     const Divisors& divisors, const nn::ForwardContext& context) {
  const at::Device device = model.parameters().device();
  const at::Tensor ids = batch.input_ids.to(device);
  const at::Tensor labels = batch.labels.to(device);
  const ops::Sequences sequences = ops::packed_sequences(batch.cu_seqlens);
  at::Tensor mtp_hidden;
  nn::ForwardOptions forward;
  forward.context = context;
  forward.mtp_hidden = &mtp_hidden;
  const at::Tensor hidden = model.forward(ids, sequences, forward);
  nn::LossOptions options;
  options.z_loss = z_loss;
  options.divisor = divisors.loss;
  const ops::CrossEntropyResult main = model.loss(hidden, labels, options);
  BatchLoss result{main.loss, main.ce.item<double>(), {}};
  if (model.mtp() == nullptr) return result;
  const auto outputs = nn::run_mtp(model, mtp_hidden, {ids, sequences, &context});
  nn::MtpLoss mtp = nn::mtp_loss(model, outputs, labels, sequences, divisors.mtp);
  result.loss = result.loss + mtp.total;
  result.mtp = std::move(mtp.cross_entropy);
  return result;
}

void add_to(std::vector<double>& sums, const std::vector<double>& more) {
  sums.resize(more.size());
  for (std::size_t i = 0; i < more.size(); ++i) sums[i] += more[i];
}

/// Labels that count at each depth of multi-token prediction.
void add_label_counts(std::vector<std::int64_t>& counts, const nn::Transformer& model,
                      const data::Batch& batch) {
  const auto more =
      nn::mtp_label_counts(model, batch.labels, ops::packed_sequences(batch.cu_seqlens));
  counts.resize(more.size());
  for (std::size_t i = 0; i < more.size(); ++i) counts[i] += more[i];
}

}  // namespace

StepLoss accumulate_gradients(nn::Transformer& model, const std::vector<data::Batch>& micro_batches,
                              const StepOptions& given) {
  StepLoss step;
  Divisors divisors;
  for (const data::Batch& batch : micro_batches) {
    step.num_counted += batch.label_count;
    step.num_tokens += batch.input_ids.numel();
    add_label_counts(divisors.mtp, model, batch);
  }
  std::optional<nn::RandomStream> random = given.random;
  divisors.loss = std::max<std::int64_t>(step.num_counted, 1);
  for (std::int64_t& divisor : divisors.mtp) divisor = std::max<std::int64_t>(divisor, 1);
  for (const data::Batch& batch : micro_batches) {
    nn::ForwardContext context;
    context.random = random;
    context.routing = &step.routing;
    context.index_warmup = given.index_warmup;
    const BatchLoss result = batch_loss(model, batch, given.z_loss, divisors, context);
    at::Tensor loss = result.loss;
    if (const at::Tensor extra = step.routing.take_loss(); extra.defined()) {
      const double part =
          static_cast<double>(batch.input_ids.numel()) / static_cast<double>(step.num_tokens);
      const at::Tensor share = extra * part;
      const double index = step.routing.take_index_loss() * part;
      step.index += index;
      step.auxiliary += share.item<double>() - index;
      loss = loss + share.to(loss.scalar_type());
    }
    if (!std::isfinite(loss.item<double>())) throw_non_finite_loss(model, batch, random);
    if (random) ++random->micro_batch;
    loss.backward();
    model.backward_dw();  // one micro-batch waits at most: that bounds what waiting holds
    if (given.after_backward) given.after_backward();
    step.loss += result.cross_entropy;
    add_to(step.mtp, result.mtp);
  }
  return step;
}

StepLoss held_out_loss(nn::Transformer& model, const data::PackedSamples& samples,
                       std::int64_t batch_samples) {
  at::NoGradGuard no_grad;
  StepLoss total;
  std::vector<std::int64_t> mtp_counted;
  for (std::int64_t first = 0; first < samples.size(); first += batch_samples) {
    const data::Batch batch = data::make_sequential_batch(samples, first, batch_samples);
    const std::vector<std::int64_t> ones(
        model.mtp() == nullptr ? 0 : static_cast<std::size_t>(model.mtp()->spec().depths()), 1);
    const BatchLoss sums = batch_loss(model, batch, 0.0, {1, ones}, {});  // divided at the end
    if (!std::isfinite(sums.loss.item<double>())) throw_non_finite_loss(model, batch, std::nullopt);
    total.loss += sums.cross_entropy;
    total.num_counted += batch.label_count;
    add_to(total.mtp, sums.mtp);
    add_label_counts(mtp_counted, model, batch);
  }
  total.loss /= static_cast<double>(std::max<std::int64_t>(total.num_counted, 1));
  for (std::size_t i = 0; i < total.mtp.size(); ++i) {
    total.mtp[i] /= static_cast<double>(std::max<std::int64_t>(mtp_counted[i], 1));
  }
  return total;
}

}  // namespace headway::engine
