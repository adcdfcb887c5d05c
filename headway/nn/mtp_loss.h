// Multi-token prediction over whole packed sequences: what each depth reads and should have said.
// Not for: drafts of generation, which grow token by token (engine/drafter.h).
// Legend: T tokens, D hidden.
#pragma once

#include <cstdint>
#include <vector>

#include <ATen/core/Tensor.h>

#include "headway/nn/transformer.h"

namespace headway::nn {

/// values[t + count] of the same sequence; `fill` where that lies behind its end. values [T].
at::Tensor shifted(const at::Tensor& values_T, int64_t count, const ops::Sequences& sequences,
                   int64_t fill);

/// The tokens that the stack has read, and where its pass stood.
struct MtpBatch {
  const at::Tensor& ids_T;  // int64
  const ops::Sequences& sequences;
  const ForwardContext* context = nullptr;
};

/// Every depth in turn, from what the stack handed on (DecoderOutput). With spec `detach` no
/// gradient reaches the stack or the embedding. Ids behind the end of a sequence are 0: their
/// positions predict nothing. Source: spec/variants.md §7. Test: tests/unit/nn/mtp_test.cpp
std::vector<MtpOutput> run_mtp(const Transformer& model, const at::Tensor& hidden_TD,
                               const MtpBatch& batch);

/// Labels of depth `depth` (from 0) from labels that are shifted for the stack; -100 behind the end
/// of a sequence.
at::Tensor mtp_labels(const at::Tensor& labels_T, int64_t depth, const ops::Sequences& sequences);

/// How many of them count, by depth; empty for a model without.
std::vector<int64_t> mtp_label_counts(const Transformer& model, const at::Tensor& labels_T,
                                      const ops::Sequences& sequences);

struct MtpLoss {
  at::Tensor total;                // [] differentiable: loss_scale / depths · Σ_k loss_k
  std::vector<double> cross_entropy;  // of each depth: Σ ce / divisor
};

/// loss_k = (1 / divisor_k) Σ_t ce(head_k(h_k[t]), label_k[t]) over labels that count. A divisor of
/// 0, or none, stands for the number of labels that count, at least 1.
MtpLoss mtp_loss(const Transformer& model, const std::vector<MtpOutput>& outputs,
                 const at::Tensor& labels_T, const ops::Sequences& sequences,
                 const std::vector<int64_t>& divisors = {});

/// The head of a depth: its own, or the model's (detached with spec `detach`).
at::Tensor mtp_head(const Transformer& model, int64_t depth);

}  // namespace headway::nn
