// The running maximum of a layer's attention logits.
// Not for: what is done about it (nn/qk_clip.h) or for computing one (ops/attention_max_logit.h).
#pragma once

#include <ATen/core/Tensor.h>

#include "headway/ops/attention.h"
#include "headway/ops/sequences.h"

namespace headway::nn {

/// Keeps, for every query head, the largest scale·q·k over everything observed since the last
/// reset: after norms and rotation, before soft cap, sink and softmax. Detached, float32 (float64
/// for float64): holds no autograd graph and changes neither forward nor backward. Off until
/// observe(true), and then costs one product of queries and keys a forward.
/// Source: Megatron-Core current_max_attn_logits; spec/attention.md §3.8.
/// Test: tests/unit/nn/max_logit_test.cpp
class MaxLogitTracker {
 public:
  void observe(bool on) { on_ = on; }
  bool observes() const { return on_; }

  /// Merges one forward into the maximum; nothing while off.
  void add(const at::Tensor& q_THK, const at::Tensor& k_SGK, const ops::Sequences& sequences,
           const ops::AttentionOptions& options);

  /// [H]; undefined before the first forward and after reset().
  const at::Tensor& value() const { return max_H_; }
  /// In place of observing: for values that were measured elsewhere (other ranks, a file).
  void set(at::Tensor max_H) { max_H_ = std::move(max_H); }
  void reset() { max_H_.reset(); }

 private:
  bool on_ = false;
  at::Tensor max_H_;
};

}  // namespace headway::nn
