// Attention as its formula reads, one sequence and one kv head at a time. Not for: speed.
// Legend: H query heads, G kv heads, m = H/G query heads of one kv head, K head dim, V value dim;
// q and k in a suffix are the queries and keys of one sequence.
#include "headway/ops/reference/attention_reference.h"

#include <limits>

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>

#include "headway/ops/internal/dropout.h"

namespace headway::ops::reference {
namespace {

using internal::AttentionArguments;

constexpr double kMinusInfinity = -std::numeric_limits<double>::infinity();

at::ScalarType accumulate_type(const at::Tensor& tensor) {
  return tensor.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
}

/// Rows of one sequence and columns of one kv head.
struct Part {
  int64_t n, q0, sq, k0, sk;
  int64_t g, m;

  /// [sq, m heads, X] -> [m, sq, X]
  at::Tensor queries(const at::Tensor& x_THX, at::ScalarType type) const {
    return x_THX.narrow(0, q0, sq).narrow(1, g * m, m).transpose(0, 1).to(type);
  }
  at::Tensor keys(const at::Tensor& x_SGX, at::ScalarType type) const {
    return x_SGX.narrow(0, k0, sk).select(1, g).to(type);
  }
  at::Tensor per_query(const at::Tensor& x_HT) const {
    return x_HT.narrow(0, g * m, m).narrow(1, q0, sq);
  }
  void put_queries(at::Tensor& x_THX, const at::Tensor& value_mqX) const {
    x_THX.narrow(0, q0, sq).narrow(1, g * m, m).copy_(value_mqX.transpose(0, 1));
  }
  /// This part of a tensor that broadcasts to [N,H,max sq,max sk]; every size is 1 or full.
  at::Tensor pairs(const at::Tensor& x) const {
    const auto cut = [](const at::Tensor& y, int64_t dim, int64_t first, int64_t count) {
      return y.size(dim) == 1 ? y : y.narrow(dim, first, count);
    };
    const at::Tensor heads = cut(cut(x, 0, n, 1).squeeze(0), 0, g * m, m);
    return cut(cut(heads, 1, 0, sq), 2, 0, sk);
  }
};

template <class Body>
void for_each_part(const AttentionArguments& a, Body body) {
  const int64_t heads = a.q.size(1), groups = a.k.size(1);
  for (size_t n = 0; n + 1 < a.cu_q.size(); ++n) {
    for (int64_t g = 0; g < groups; ++g) {
      const Part part{static_cast<int64_t>(n),
                      a.cu_q[n],
                      a.cu_q[n + 1] - a.cu_q[n],
                      a.cu_k[n],
                      a.cu_k[n + 1] - a.cu_k[n],
                      g,
                      heads / groups};
      if (part.sq > 0) body(part);
    }
  }
}

/// Bool [q,k], or [1 or m,q,k] with a given mask: true = hidden.
at::Tensor hidden_mask(const Part& part, const AttentionArguments& a) {
  const AttentionRule& rule = a.options.rule;
  const auto options = at::TensorOptions().dtype(at::kLong).device(a.q.device());
  const at::Tensor position = at::arange(part.sq, options).unsqueeze(1) + (part.sk - part.sq);
  const at::Tensor key = at::arange(part.sk, options).unsqueeze(0);
  at::Tensor hidden = at::zeros({part.sq, part.sk}, options.dtype(at::kBool));
  if (rule.left >= 0) hidden = hidden.logical_or(key < position - rule.left);
  if (rule.right >= 0) hidden = hidden.logical_or(key > position + rule.right);
  if (a.options.mask.defined()) hidden = hidden.logical_or(part.pairs(a.options.mask));
  return hidden;
}

/// 0 where dropped, else 1 / (1 - probability): [m,q,k]; undefined without dropout.
at::Tensor dropout_factors(const Part& part, const AttentionArguments& a, at::ScalarType type) {
  const AttentionDropout& dropout = a.options.dropout;
  if (dropout.probability == 0) return {};
  const uint32_t threshold = internal::dropout_threshold(dropout.probability);
  const double kept = internal::dropout_factor(dropout.probability);
  at::Tensor factors = at::empty({part.m, part.sq, part.sk}, at::kDouble);
  double* out = factors.data_ptr<double>();
  for (int64_t h = 0; h < part.m; ++h) {
    for (int64_t i = 0; i < part.sq; ++i) {
      const auto row = internal::dropout_row(dropout.key, part.g * part.m + h, part.q0 + i);
      for (int64_t j = 0; j < part.sk; ++j) {
        const auto column = static_cast<uint32_t>(part.k0 + j);
        *out++ = internal::dropout_bits(row, column) >= threshold ? kept : 0.0;
      }
    }
  }
  return factors.to(a.q.device(), type);
}

/// a b for every head. at::matmul would choose its algorithm by requires_grad, so that a run with a
/// tape and one without could differ in the last bit.
at::Tensor times(const at::Tensor& a_mxy, const at::Tensor& b_yz) {
  return at::mm(a_mxy.flatten(0, 1), b_yz).view({a_mxy.size(0), a_mxy.size(1), b_yz.size(1)});
}

/// sum over heads and rows of aᵀ b
at::Tensor times_transposed(const at::Tensor& a_mxy, const at::Tensor& b_mxz) {
  return at::mm(a_mxy.flatten(0, 1).t(), b_mxz.flatten(0, 1));
}

/// Capped scaled scores [m,q,k], before bias and mask.
at::Tensor capped_scores(const at::Tensor& q_mqK, const at::Tensor& k_kK,
                         const AttentionOptions& options) {
  const at::Tensor z = times(q_mqK, k_kK.t()) * options.scale;
  return options.softcap > 0 ? at::tanh(z / options.softcap) * options.softcap : z;
}

at::Tensor biased(const at::Tensor& z_mqk, const Part& part, const AttentionArguments& a) {
  if (!a.options.bias.defined()) return z_mqk;
  return z_mqk + part.pairs(a.options.bias).to(z_mqk.scalar_type());
}

/// Adds dz [m,q,k] to its part of the gradient of the bias, summed over what the bias broadcasts.
void add_bias_gradient(const Part& part, const at::Tensor& dz_mqk, const at::Tensor& d_bias) {
  const at::Tensor to = part.pairs(d_bias);
  to.add_(dz_mqk.sum_to_size(to.sizes()));
}

/// exp(z - lse), 0 where hidden and in rows that see nothing (their lse is -inf).
at::Tensor probabilities(const at::Tensor& z_mqk, const at::Tensor& hidden,
                         const at::Tensor& lse_mq) {
  const at::Tensor shift = at::where(at::isneginf(lse_mq), at::zeros_like(lse_mq), lse_mq);
  return at::exp(z_mqk.masked_fill(hidden, kMinusInfinity) - shift.unsqueeze(-1));
}

at::Tensor sinks_of(const AttentionArguments& a, const Part& part, at::ScalarType type) {
  return a.sinks.narrow(0, part.g * part.m, part.m).to(type).unsqueeze(1);
}

}  // namespace

internal::AttentionForward attention_forward(const AttentionArguments& a) {
  const at::ScalarType type = accumulate_type(a.q);
  at::Tensor out = at::zeros({a.q.size(0), a.q.size(1), a.v.size(2)}, a.q.options());
  at::Tensor lse = at::zeros({a.q.size(1), a.q.size(0)}, a.q.options().dtype(type));
  for_each_part(a, [&](const Part& part) {
    const at::Tensor hidden = hidden_mask(part, a);
    const at::Tensor z =
        biased(capped_scores(part.queries(a.q, type), part.keys(a.k, type), a.options), part, a);
    at::Tensor row_lse = at::logsumexp(z.masked_fill(hidden, kMinusInfinity), -1);
    if (a.sinks.defined()) row_lse = at::logaddexp(row_lse, sinks_of(a, part, type));
    at::Tensor p = probabilities(z, hidden, row_lse);
    if (const at::Tensor kept = dropout_factors(part, a, type); kept.defined()) p = p * kept;
    part.put_queries(out, times(p, part.keys(a.v, type)));
    part.per_query(lse).copy_(row_lse);
  });
  return {out, lse};
}

internal::AttentionGradients attention_backward(const AttentionArguments& a,
                                                const internal::AttentionBackwardArguments& b) {
  const at::ScalarType type = accumulate_type(a.q);
  at::Tensor dq = at::zeros(a.q.sizes(), a.q.options());
  at::Tensor dk = at::zeros(a.k.sizes(), a.k.options());
  at::Tensor dv = at::zeros(a.v.sizes(), a.v.options());
  at::Tensor d_sinks;
  if (a.sinks.defined()) d_sinks = at::zeros(a.sinks.sizes(), a.sinks.options().dtype(type));
  at::Tensor d_bias;
  if (b.bias && a.options.bias.defined()) {
    d_bias = at::zeros(a.options.bias.sizes(), a.q.options().dtype(type));
  }
  for_each_part(a, [&](const Part& part) {
    const at::Tensor q = part.queries(a.q, type), k = part.keys(a.k, type),
                     v = part.keys(a.v, type);
    const at::Tensor d_out = part.queries(b.d_out, type);
    const at::Tensor row_lse = part.per_query(b.forward.lse).to(type);
    const at::Tensor z = capped_scores(q, k, a.options);
    const at::Tensor p = probabilities(biased(z, part, a), hidden_mask(part, a), row_lse);
    // The sink's own probability is the rest of the row: it takes part only through delta.
    const at::Tensor delta = (d_out * part.queries(b.forward.out, type)).sum(-1);
    at::Tensor d_weight = times(d_out, v.t()), weight = p;
    if (const at::Tensor kept = dropout_factors(part, a, type); kept.defined()) {
      d_weight = d_weight * kept;
      weight = p * kept;
    }
    at::Tensor dz = p * (d_weight - delta.unsqueeze(-1));
    if (d_bias.defined()) add_bias_gradient(part, dz, d_bias);
    if (a.options.softcap > 0) dz = dz * (1 - (z / a.options.softcap).square());
    dz = dz * a.options.scale;
    part.put_queries(dq, times(dz, k));
    dk.narrow(0, part.k0, part.sk).select(1, part.g).copy_(times_transposed(dz, q));
    dv.narrow(0, part.k0, part.sk).select(1, part.g).copy_(times_transposed(weight, d_out));
    if (d_sinks.defined()) {
      const at::Tensor p_sink = at::exp(sinks_of(a, part, type) - row_lse);
      d_sinks.narrow(0, part.g * part.m, part.m).sub_((p_sink * delta).sum(-1));
    }
  });
  internal::AttentionGradients gradients;
  if (b.q) gradients.q = dq;
  if (b.k) gradients.k = dk;
  if (b.v) gradients.v = dv;
  if (b.sinks && d_sinks.defined()) gradients.sinks = d_sinks.to(a.sinks.scalar_type());
  if (d_bias.defined()) gradients.bias = d_bias.to(a.options.bias.scalar_type());
  return gradients;
}

}  // namespace headway::ops::reference
