// Merging maxima of attention logits. Not for: computing them (ops).
#include "headway/nn/max_logit.h"

#include <ATen/Functions.h>
#include <ATen/core/grad_mode.h>

#include "headway/ops/attention_max_logit.h"

namespace headway::nn {

void MaxLogitTracker::add(const at::Tensor& q_THK, const at::Tensor& k_SGK,
                          const ops::Sequences& sequences, const ops::AttentionOptions& options) {
  if (!on_) return;
  const at::NoGradGuard no_grad;
  const at::Tensor max_H = ops::attention_max_logit(q_THK, k_SGK, sequences, options);
  max_H_ = max_H_.defined() ? at::maximum(max_H_, max_H) : max_H;
}

}  // namespace headway::nn
