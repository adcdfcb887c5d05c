// Sparse attention over gathered rows, a block of tokens at a time. Not for: speed.
// Legend: B tokens of a block, H heads, K channels of a key, J keys a query.
#include "headway/ops/reference/sparse_attention_reference.h"

#include <algorithm>

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>

namespace headway::ops::reference {
namespace {

using internal::SparseAttentionArguments;

constexpr int64_t kBlock = 32;

/// What one block of queries reads: rows 0 stand in where there is no key.
struct Gathered {
  at::Tensor q_BHK;
  at::Tensor place_N;  // rows of kv, one after the other, N = B·J
  at::Tensor rows_BJK;
  at::Tensor p_BHJ;

  Gathered(const SparseAttentionArguments& a, int64_t first, int64_t count)
      : q_BHK(a.q.narrow(0, first, count)) {
    const at::Tensor chosen_BJ = a.chosen.narrow(0, first, count).to(a.kv.device());
    place_N = chosen_BJ.clamp_min(0).flatten();
    rows_BJK = a.kv.index_select(0, place_N).unflatten(0, chosen_BJ.sizes());
    const at::Tensor hidden_B1J = (chosen_BJ < 0).unsqueeze(1);
    // Not -inf: a query without keys must stay a number, and its probabilities become 0.
    const double low = a.q.scalar_type() == at::kDouble ? -1e300 : -1e30;
    const at::Tensor z_BHJ =
        (at::bmm(q_BHK, rows_BJK.transpose(1, 2)) * a.scale).masked_fill(hidden_B1J, low);
    const at::Tensor e_BHJ =
        at::exp(z_BHJ - at::amax(z_BHJ, {-1}, true)).masked_fill(hidden_B1J, 0.0);
    p_BHJ = e_BHJ / e_BHJ.sum(-1, true).clamp_min(1e-10);
  }
};

template <class Body>
void for_blocks(const SparseAttentionArguments& a, const Body& body) {
  for (int64_t first = 0; first < a.q.size(0); first += kBlock) {
    body(first, std::min(kBlock, a.q.size(0) - first));
  }
}

bool is_empty(const SparseAttentionArguments& a) {
  return a.q.numel() == 0 || a.kv.size(0) == 0 || a.chosen.size(1) == 0;
}

}  // namespace

at::Tensor sparse_attention_forward(const SparseAttentionArguments& a) {
  at::Tensor out_THV = at::zeros({a.q.size(0), a.q.size(1), a.value_dim}, a.q.options());
  if (is_empty(a)) return out_THV;
  for_blocks(a, [&](int64_t first, int64_t count) {
    const Gathered g(a, first, count);
    out_THV.narrow(0, first, count).copy_(at::bmm(g.p_BHJ, g.rows_BJK.narrow(2, 0, a.value_dim)));
  });
  return out_THV;
}

internal::SparseAttentionGradients sparse_attention_backward(const SparseAttentionArguments& a,
                                                             const at::Tensor& out,
                                                             const at::Tensor& d_out) {
  internal::SparseAttentionGradients grad{at::zeros_like(a.q), at::zeros_like(a.kv)};
  if (is_empty(a)) return grad;
  for_blocks(a, [&](int64_t first, int64_t count) {
    const Gathered g(a, first, count);
    const at::Tensor d_BHV = d_out.narrow(0, first, count);
    const at::Tensor dp_BHJ = at::bmm(d_BHV, g.rows_BJK.narrow(2, 0, a.value_dim).transpose(1, 2));
    const at::Tensor mean_BH1 = (d_BHV * out.narrow(0, first, count)).sum(-1, true);
    const at::Tensor dz_BHJ = g.p_BHJ * (dp_BHJ - mean_BH1) * a.scale;
    grad.q.narrow(0, first, count).copy_(at::bmm(dz_BHJ, g.rows_BJK));
    at::Tensor d_rows_BJK = at::bmm(dz_BHJ.transpose(1, 2), g.q_BHK);
    d_rows_BJK.narrow(2, 0, a.value_dim).add_(at::bmm(g.p_BHJ.transpose(1, 2), d_BHV));
    grad.kv.index_add_(0, g.place_N, d_rows_BJK.flatten(0, 1));
  });
  return grad;
}

}  // namespace headway::ops::reference
