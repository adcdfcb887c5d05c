// See probe_mtp.h. Not for: the stack (probe_gpt.cpp).
#include "headway/engine/probe_mtp.h"

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>

#include "headway/base/error.h"
#include "headway/nn/mtp_loss.h"

namespace headway::engine {
namespace {

/// Which labels count, 0 or more each [T]: the file's mask. Labels made of ids end one token early.
at::Tensor label_mask(const ProbeInput& input, const ProbeMtp& mtp, const at::Tensor& ids_BS) {
  at::Tensor mask_T = at::ones({ids_BS.numel()}, input.dtype());
  if (input.has("loss_mask")) {
    const at::Tensor given = input.tensor("loss_mask");
    if (given.sizes() != ids_BS.sizes()) {
      throw ShapeError("[probe] loss_mask: allowed the shape of input_ids");
    }
    mask_T = given.flatten().to(input.dtype());
  }
  if (mtp.labels_BS.defined()) return mask_T;
  const at::Tensor inside = nn::shifted(at::ones_like(mask_T), 1, mtp.sequences, 0);
  return mask_T * inside;
}

}  // namespace

at::Tensor probe_labels(const ProbeInput& input, const at::Tensor& logits_BSV) {
  if (!input.has("labels")) return {};
  const at::Tensor labels = input.tensor("labels");
  if (labels.scalar_type() != at::kLong || labels.sizes() != logits_BSV.sizes().slice(0, 2) ||
      labels.min().item<int64_t>() < 0 || labels.max().item<int64_t>() >= logits_BSV.size(2)) {
    throw ShapeError(
        "[probe] labels: allowed int64 [batch, sequence], each in 0 .. vocab_size - 1");
  }
  return labels;
}

at::Tensor probe_token_loss(const at::Tensor& logits_BSV, const at::Tensor& labels_BS) {
  return -at::log_softmax(logits_BSV, -1).gather(2, labels_BS.unsqueeze(2)).squeeze(2);
}

at::Tensor add_mtp_losses(ProbeOutput& out, const ProbeInput& input, const ProbeMtp& mtp) {
  if (mtp.model.mtp() == nullptr) return {};
  const spec::MtpSpec& spec = mtp.model.mtp()->spec();
  const at::Tensor ids_BS = input.tensor("input_ids");
  const at::Tensor ids_T = ids_BS.flatten();
  const at::Tensor labels_T =
      mtp.labels_BS.defined() ? mtp.labels_BS.flatten() : nn::shifted(ids_T, 1, mtp.sequences, 0);
  const at::Tensor mask_T = label_mask(input, mtp, ids_BS);
  const double scale = spec.loss_scale / static_cast<double>(spec.depths());
  const auto outputs = nn::run_mtp(mtp.model, mtp.hidden_TD, {ids_T, mtp.sequences, mtp.context});
  at::Tensor total;
  for (size_t k = 0; k < outputs.size(); ++k) {
    const auto depth = static_cast<int64_t>(k);
    const std::string number = std::to_string(k);
    const auto unpacked = [&](const at::Tensor& x) { return x.unflatten(0, ids_BS.sizes()); };
    out["aux.mtp" + number + "_out"] = unpacked(outputs[k].normed_TD).transpose(0, 1);
    const at::Tensor logits =
        mtp.model.logits(outputs[k].normed_TD, nn::mtp_head(mtp.model, depth));
    const at::Tensor labels = nn::shifted(labels_T, depth + 1, mtp.sequences, 0);
    const at::Tensor mask = nn::shifted(mask_T, depth + 1, mtp.sequences, 0);
    const at::Tensor counted = mask.sum().clamp_min(1.0);
    const at::Tensor weight =
        mtp.config.calculate_per_token_loss ? mask_T.sum() / counted : 1.0 / counted;
    const at::Tensor loss =
        probe_token_loss(unpacked(logits), unpacked(labels)) * unpacked(mask) * weight * scale;
    out["mtp_loss." + number] = loss;
    total = total.defined() ? total + loss.sum() : loss.sum();
  }
  return total;
}

}  // namespace headway::engine
