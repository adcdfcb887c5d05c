// See mtp_loss.h. Not for: the layers (mtp.cpp).
#include "headway/nn/mtp_loss.h"

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>

namespace headway::nn {

at::Tensor shifted(const at::Tensor& values_T, int64_t count, const ops::Sequences& sequences,
                   int64_t fill) {
  at::Tensor result = at::full_like(values_T, fill);
  for (int64_t n = 0; n < sequences.num_sequences(); ++n) {
    const int64_t begin = sequences.cu_q[n];
    const int64_t kept = sequences.cu_q[n + 1] - begin - count;
    if (kept > 0) {
      result.narrow(0, begin, kept).copy_(values_T.narrow(0, begin + count, kept));
    }
  }
  return result;
}

std::vector<MtpOutput> run_mtp(const Transformer& model, const at::Tensor& hidden_TD,
                               const MtpBatch& batch) {
  const Mtp& mtp = *model.mtp();
  const bool detach = mtp.spec().detach;
  std::vector<MtpOutput> outputs;
  at::Tensor h_TD = hidden_TD;
  for (int64_t depth = 0; depth < mtp.spec().depths(); ++depth) {
    if (detach) h_TD = h_TD.detach();
    at::Tensor embedding_TD = model.embed(shifted(batch.ids_T, depth + 1, batch.sequences, 0));
    if (detach) embedding_TD = embedding_TD.detach();
    outputs.push_back(
        mtp.forward(depth, {embedding_TD, h_TD, batch.sequences, nullptr, batch.context}));
    h_TD = outputs.back().hidden_TD;
  }
  return outputs;
}

at::Tensor mtp_labels(const at::Tensor& labels_T, int64_t depth, const ops::Sequences& sequences) {
  return shifted(labels_T, depth + 1, sequences, ops::CrossEntropyOptions{}.ignore_index);
}

std::vector<int64_t> mtp_label_counts(const Transformer& model, const at::Tensor& labels_T,
                                      const ops::Sequences& sequences) {
  std::vector<int64_t> counts;
  const int64_t depths = model.mtp() == nullptr ? 0 : model.mtp()->spec().depths();
  for (int64_t depth = 0; depth < depths; ++depth) {
    const at::Tensor labels = mtp_labels(labels_T, depth, sequences);
    counts.push_back((labels != ops::CrossEntropyOptions{}.ignore_index).sum().item<int64_t>());
  }
  return counts;
}

at::Tensor mtp_head(const Transformer& model, int64_t depth) {
  const at::Tensor& own = model.mtp()->head(depth);
  if (own.defined()) return own;
  return model.mtp()->spec().detach ? model.head().detach() : model.head();
}

MtpLoss mtp_loss(const Transformer& model, const std::vector<MtpOutput>& outputs,
                 const at::Tensor& labels_T, const ops::Sequences& sequences,
                 const std::vector<int64_t>& divisors) {
  const spec::MtpSpec& spec = model.mtp()->spec();
  const double share = spec.loss_scale / static_cast<double>(spec.depths());
  MtpLoss result;
  for (size_t depth = 0; depth < outputs.size(); ++depth) {
    const auto k = static_cast<int64_t>(depth);
    LossOptions options;
    options.head = mtp_head(model, k);
    if (depth < divisors.size()) options.divisor = divisors[depth];
    const ops::CrossEntropyResult loss =
        model.loss(outputs[depth].normed_TD, mtp_labels(labels_T, k, sequences), options);
    const at::Tensor scaled = loss.loss * share;
    result.total = result.total.defined() ? result.total + scaled : scaled;
    result.cross_entropy.push_back(loss.ce.item<double>());
  }
  return result;
}

}  // namespace headway::nn
