// Attention and its gradients by scalar loops in double, straight from the formula of
// headway/ops/attention.h: what the reference op is checked against. Not for: speed.
// Legend: T query tokens, S key tokens, H query heads, G kv heads, K head dim, V value dim.
#pragma once

#include <ATen/core/Tensor.h>

#include "headway/ops/attention.h"

namespace headway::test {

struct NaiveAttention {
  at::Tensor out;                  // [T,H,V] double
  at::Tensor lse;                  // [H,T] double, the sink included
  at::Tensor dq, dk, dv, d_sinks;  // of sum(out * d_out); double
  at::Tensor d_bias;               // [N,H,max sq,max sk]: before the sum over what bias broadcasts
};

/// Inputs of any dtype (converted to double first); `sinks` may be undefined.
NaiveAttention naive_attention(const at::Tensor& q_THK, const at::Tensor& k_SGK,
                               const at::Tensor& v_SGV, const at::Tensor& sinks_H,
                               const at::Tensor& d_out_THV, const ops::Sequences& sequences,
                               const ops::AttentionOptions& options);

}  // namespace headway::test
