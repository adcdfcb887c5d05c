// Token losses of a probed GPTModel, and what multi-token prediction adds to them.
// Not for: training (nn/mtp_loss.h holds its losses).
#pragma once

#include "headway/engine/probe_input.h"
#include "headway/nn/transformer.h"

namespace headway::engine {

/// The file's labels [B,S], which stand where they count, as upstream shifts nothing; undefined
/// without. Errors: ShapeError for another shape, dtype or id.
at::Tensor probe_labels(const ProbeInput& input, const at::Tensor& logits_BSV);

/// Cross-entropy of every token [B,S].
at::Tensor probe_token_loss(const at::Tensor& logits_BSV, const at::Tensor& labels_BS);

struct ProbeMtp {
  const nn::Transformer& model;
  const spec::MegatronConfig& config;
  const ops::Sequences& sequences;
  const nn::ForwardContext* context;
  const at::Tensor& hidden_TD;  // ForwardOptions::mtp_hidden
  const at::Tensor& labels_BS;  // undefined: the ids moved by one
};

/// Adds aux.mtpK_out [S,B,D], of depth K the normed output, and mtp_loss.K [B,S]: its token losses
/// times loss_mask (default 1), over the number of labels that count and scaled by
/// mtp_loss_scaling_factor / depths. With calculate_per_token_loss they are over the share of
/// labels that count at this depth instead. Returns their sum; undefined for a model without.
at::Tensor add_mtp_losses(ProbeOutput& out, const ProbeInput& input, const ProbeMtp& mtp);

}  // namespace headway::engine
