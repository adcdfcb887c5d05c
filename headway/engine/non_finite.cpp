// Re-running a forward pass with its hidden states kept.
// Not for: repairing anything.
#include "headway/engine/non_finite.h"

#include <string>

#include <ATen/Functions.h>
#include <ATen/core/grad_mode.h>
#include <fmt/format.h>

#include "headway/base/error.h"
#include "headway/nn/mtp_loss.h"

namespace headway::engine {
namespace {

bool all_finite(const at::Tensor& tensor) { return at::isfinite(tensor).all().item<bool>(); }

[[noreturn]] void fail_loss(const std::string& place) {
  throw NonFiniteError(fmt::format(
      "[train] loss = not finite, allowed finite numbers; first seen in {}; hint: lower train."
      "optimizer.lr, lengthen train.schedule.warmup_steps, or resume from an earlier checkpoint",
      place));
}

std::string segment_of(const spec::TensorSpec& spec, const at::Tensor& tensor) {
  if (spec.segments.size() == 1) return "";
  for (const spec::RowSegment& segment : spec.segments) {
    if (!all_finite(tensor.narrow(0, segment.begin, segment.rows))) {
      return fmt::format(" (segment {})", segment.name);
    }
  }
  return "";
}

void check_weights(const nn::Parameters& parameters) {
  for (std::size_t i = 0; i < parameters.specs().size(); ++i) {
    const spec::TensorSpec& spec = parameters.specs()[i];
    const at::Tensor& tensor = parameters.tensors()[i];
    if (all_finite(tensor)) continue;
    fail_loss(fmt::format("the weights {}{}", spec.name, segment_of(spec, tensor)));
  }
}

}  // namespace

void throw_non_finite_loss(nn::Transformer& model, const data::Batch& batch,
                           const std::optional<nn::RandomStream>& random) {
  at::NoGradGuard no_grad;
  check_weights(model.parameters());
  std::vector<at::Tensor> hidden;
  at::Tensor mtp_hidden;
  nn::ForwardOptions options;
  options.hidden = &hidden;
  options.mtp_hidden = &mtp_hidden;
  options.context.random = random;
  const at::Tensor ids = batch.input_ids.to(model.parameters().device());
  const ops::Sequences sequences = ops::packed_sequences(batch.cu_seqlens);
  const at::Tensor last = model.forward(ids, sequences, options);
  for (std::size_t i = 0; i < hidden.size(); ++i) {
    if (all_finite(hidden[i])) continue;
    fail_loss(fmt::format("the output of layers.{} (block {})", i, model.spec().layers[i].block));
  }
  if (!all_finite(last)) fail_loss("the output of final_norm");
  if (model.mtp() != nullptr) {
    const auto outputs = nn::run_mtp(model, mtp_hidden, {ids, sequences, &options.context});
    for (std::size_t k = 0; k < outputs.size(); ++k) {
      if (!all_finite(outputs[k].normed_TD))
        fail_loss(fmt::format("the output of mtp depth {}", k + 1));
    }
  }
  fail_loss("the logits of the head");
}

}  // namespace headway::engine
