// Losses, logits and gradients of a model on given tokens. Not for: training or files.
#include "headway/engine/evaluator.h"

#include <ATen/Functions.h>
#include <ATen/core/grad_mode.h>

#include "headway/base/error.h"
#include "headway/nn/image_spans.h"
#include "headway/nn/mtp_loss.h"

namespace headway::engine {
namespace {

void check_matrix(const at::Tensor& tensor, const char* name, at::IntArrayRef want) {
  const bool fits = tensor.dim() == 2 && tensor.scalar_type() == at::kLong &&
                    (want.empty() || tensor.sizes() == want);
  if (fits) return;
  std::string allowed =
      want.empty() ? "[B,S]" : "[" + std::to_string(want[0]) + "," + std::to_string(want[1]) + "]";
  throw ShapeError(std::string("[eval] ") + name + " = " +
                   std::string(at::toString(tensor.scalar_type())) + " of " +
                   std::to_string(tensor.dim()) + " dimensions, allowed int64 " + allowed);
}

std::map<std::string, at::Tensor> collect_gradients(const nn::Parameters& parameters) {
  std::map<std::string, at::Tensor> gradients;
  for (size_t i = 0; i < parameters.specs().size(); ++i) {
    const at::Tensor& tensor = parameters.tensors()[i];
    // What the loss does not reach (an indexer, whose choice has no gradient) has no entry.
    if (!tensor.requires_grad() || !tensor.grad().defined()) continue;
    gradients[parameters.specs()[i].name] = tensor.grad().clone();
  }
  return gradients;
}

void clear_gradients(const nn::Parameters& parameters) {
  for (const at::Tensor& tensor : parameters.tensors()) tensor.mutable_grad().reset();
}

void add_mtp(Evaluation& result, const nn::Transformer& model, const at::Tensor& hidden_TD,
             const EvaluationRequest& request) {
  const at::NoGradGuard no_grad;
  const at::Device device = hidden_TD.device();
  const int64_t batch = request.input_ids_BS.size(0), length = request.input_ids_BS.size(1);
  const ops::Sequences sequences = ops::equal_sequences(batch, length);
  const at::Tensor ids = request.input_ids_BS.flatten().to(device);
  const auto outputs = nn::run_mtp(model, hidden_TD, {ids, sequences});
  for (size_t k = 0; k < outputs.size(); ++k) {
    const at::Tensor head = nn::mtp_head(model, static_cast<int64_t>(k));
    result.mtp_logits_BSV.push_back(
        model.logits(outputs[k].normed_TD, head).unflatten(0, {batch, length}));
  }
  if (!request.labels_BS.defined()) return;
  const at::Tensor labels = shift_labels(request.labels_BS).flatten().to(device);
  result.mtp_loss = nn::mtp_loss(model, outputs, labels, sequences).cross_entropy;
}

}  // namespace

at::Tensor shift_labels(const at::Tensor& labels_BS) {
  at::Tensor shifted = at::full_like(labels_BS, -100);
  const int64_t length = labels_BS.size(1);
  if (length > 1) shifted.narrow(1, 0, length - 1).copy_(labels_BS.narrow(1, 1, length - 1));
  return shifted;
}

Evaluation evaluate(nn::Transformer& model, const EvaluationRequest& request) {
  check_matrix(request.input_ids_BS, "input_ids", {});
  const bool scored = request.labels_BS.defined();
  if (scored) check_matrix(request.labels_BS, "labels", request.input_ids_BS.sizes());
  if (request.gradients && !scored)
    throw ConfigError("[eval] --with grads: allowed only with labels in the input file");
  if (request.mtp && model.mtp() == nullptr)
    throw ConfigError("[eval] --with mtp: allowed only for a model with multi-token prediction");
  const int64_t batch = request.input_ids_BS.size(0);
  const int64_t length = request.input_ids_BS.size(1);
  const at::Device device = model.parameters().device();
  const ops::Sequences sequences = ops::equal_sequences(batch, length);

  at::AutoGradMode grad_mode(request.gradients);
  clear_gradients(model.parameters());
  Evaluation result;
  std::vector<at::Tensor> hidden;
  nn::ForwardOptions options;
  if (request.hidden) options.hidden = &hidden;
  if (request.token_types_BS.defined()) {
    check_matrix(request.token_types_BS, "mm_token_type_ids", request.input_ids_BS.sizes());
    options.context.image_spans_T = nn::image_spans(request.token_types_BS.flatten(), sequences);
  }
  const at::Tensor ids = request.input_ids_BS.flatten().to(device);
  at::Tensor mtp_hidden;
  options.mtp_hidden = &mtp_hidden;
  const at::Tensor h = model.forward(ids, sequences, options);
  if (request.logits) {
    at::NoGradGuard no_grad;
    result.logits_BSV = model.logits(h).unflatten(0, {batch, length}).detach();
  }
  if (scored) {
    const ops::CrossEntropyResult loss =
        model.loss(h, shift_labels(request.labels_BS).flatten().to(device));
    result.loss = loss.loss.detach();
    if (request.gradients) {
      loss.loss.backward();
      result.gradients = collect_gradients(model.parameters());
      clear_gradients(model.parameters());
    }
  }
  if (request.mtp) add_mtp(result, model, mtp_hidden.detach(), request);
  for (const at::Tensor& state : hidden)
    result.hidden_BSD.push_back(state.detach().unflatten(0, {batch, length}));
  return result;
}

}  // namespace headway::engine
