// Chunks of 64 tokens with matrix products. With G the running sum of g inside a chunk, D = e^(G_i
// - G_j) on and below the diagonal, S the state at its start:
//   L = tril₋₁(β k·k ∘ D),  P = tril(q·k ∘ D),  X = (I+L)⁻¹ β(v - (e^G k) S)
//   out = (e^G q) S + P X,  S' = e^(G_n) S + (e^(G_n-G) k)ᵀ X
// The inverse is a triangular solve, so that no power of L is formed; exponents are differences
// G_i - G_j only, masked first. Not for: the fused CPU kernel.
#include "headway/ops/reference/delta_rule_chunked.h"

#include <algorithm>
#include <limits>
#include <vector>

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>

#include "headway/ops/internal/arguments.h"
#include "headway/ops/reference/delta_rule_heads.h"

namespace headway::ops::reference {
namespace {

using internal::DeltaRuleArguments;
using internal::kDeltaChunk;

/// The decay between every pair of tokens of a chunk, one number or one per channel.
class Pairs {
 public:
  Pairs(const at::Tensor& sums, at::ScalarType type) {  // sums [H,n,1|K], double
    const int64_t n = sums.size(1);
    const at::Tensor upper =
        at::ones({n, n}, at::device(sums.device()).dtype(at::kBool)).triu(1).unsqueeze(-1);
    decay_ = (sums.unsqueeze(2) - sums.unsqueeze(1))
                 .masked_fill(upper, -std::numeric_limits<double>::infinity())
                 .exp()
                 .to(type);
    if (decay_.size(3) == 1) decay_ = decay_.squeeze(-1);
  }

  /// Σ_c a_ic b_jc D_ijc, 0 above the diagonal.
  at::Tensor products(const at::Tensor& a, const at::Tensor& b) const {
    if (scalar()) return a.matmul(b.transpose(1, 2)) * decay_;
    return (a.unsqueeze(2) * b.unsqueeze(1) * decay_).sum(-1);
  }
  /// Σ_j w_ij D_ijc x_jc.
  at::Tensor apply(const at::Tensor& w, const at::Tensor& x) const {
    if (scalar()) return (w * decay_).matmul(x);
    return (w.unsqueeze(-1) * decay_ * x.unsqueeze(1)).sum(2);
  }
  /// Σ_i w_ij D_ijc x_ic.
  at::Tensor apply_transposed(const at::Tensor& w, const at::Tensor& x) const {
    if (scalar()) return (w * decay_).transpose(1, 2).matmul(x);
    return (w.unsqueeze(-1) * decay_ * x.unsqueeze(2)).sum(1);
  }

 private:
  bool scalar() const { return decay_.dim() == 3; }
  at::Tensor decay_;
};

at::Tensor solve_lower(const at::Tensor& lower, const at::Tensor& x, bool transposed) {
  const at::Tensor matrix = transposed ? lower.transpose(1, 2) : lower;
  return at::linalg_solve_triangular(matrix, x, /*upper=*/transposed, /*left=*/true,
                                     /*unitriangular=*/true);
}

/// Tokens [begin, begin+n) of every head and what both passes need of them.
struct Chunk {
  Chunk(const DeltaHeads& heads, int64_t begin, int64_t n)
      : q(heads.q.narrow(1, begin, n)),
        k(heads.k.narrow(1, begin, n)),
        v(heads.v.narrow(1, begin, n)),
        beta(heads.beta.narrow(1, begin, n).unsqueeze(-1)),
        sums(heads.decay.narrow(1, begin, n).to(at::kDouble).cumsum(1)),
        pairs(sums, q.scalar_type()) {
    const at::Tensor last = sums.narrow(1, n - 1, 1);
    from_start = sums.exp().to(q.scalar_type());
    to_end = (last - sums).exp().to(q.scalar_type());
    whole = last.exp().to(q.scalar_type()).transpose(1, 2);  // [H,1|K,1]
    q_start = q * from_start;
    k_start = k * from_start;
    k_end = k * to_end;
    keys = pairs.products(k, k).tril(-1);
    lower = beta * keys;
    scores = pairs.products(q, k);
  }

  at::Tensor error(const at::Tensor& state) const { return v - k_start.matmul(state); }

  at::Tensor q, k, v, beta;  // [H,n,·], beta [H,n,1]
  at::Tensor sums;           // G, double
  Pairs pairs;
  at::Tensor from_start, to_end, whole;
  at::Tensor q_start, k_start, k_end;
  at::Tensor keys, lower, scores;  // [H,n,n]
};

/// Adds the gradients of one chunk to `d` and turns d_state of the state it leaves into that of
/// the state it starts from.
void chunk_backward(const Chunk& chunk, const at::Tensor& state, const at::Tensor& d_out,
                    at::Tensor& d_state, DeltaHeads& d, int64_t begin) {
  const int64_t n = chunk.q.size(1);
  const at::Tensor error = chunk.error(state);
  const at::Tensor x = solve_lower(chunk.lower, chunk.beta * error, false);
  const at::Tensor d_x = chunk.scores.transpose(1, 2).matmul(d_out) + chunk.k_end.matmul(d_state);
  const at::Tensor d_right = solve_lower(chunk.lower, d_x, true);  // of β·error
  const at::Tensor d_error = chunk.beta * d_right;
  const at::Tensor d_scores = d_out.matmul(x.transpose(1, 2)).tril();
  const at::Tensor d_lower = -d_right.matmul(x.transpose(1, 2)).tril(-1);
  const at::Tensor d_keys = chunk.beta * d_lower;
  const at::Tensor state_t = state.transpose(1, 2);
  const at::Tensor d_q_start = d_out.matmul(state_t);
  const at::Tensor d_k_start = -d_error.matmul(state_t);
  const at::Tensor d_k_end = x.matmul(d_state.transpose(1, 2));

  const at::Tensor q_pairs = chunk.pairs.apply(d_scores, chunk.k);
  const at::Tensor k_rows = chunk.pairs.apply(d_keys, chunk.k);
  const at::Tensor k_columns = chunk.pairs.apply_transposed(d_keys, chunk.k) +
                               chunk.pairs.apply_transposed(d_scores, chunk.q);
  at::Tensor d_sums = q_pairs * chunk.q + (k_rows - k_columns) * chunk.k +
                      d_q_start * chunk.q_start + d_k_start * chunk.k_start - d_k_end * chunk.k_end;
  // The chunk's whole decay: [H,K] of the end factors and of the state.
  const at::Tensor d_last =
      (d_k_end * chunk.k_end).sum(1) + (chunk.whole * d_state * state).sum(-1);
  d_sums.select(1, n - 1).add_(d_last);
  if (d.decay.size(2) == 1) d_sums = d_sums.sum(-1, /*keepdim=*/true);

  const auto put = [&](const at::Tensor& to, const at::Tensor& value) {
    to.narrow(1, begin, n).copy_(value);
  };
  put(d.q, q_pairs + d_q_start * chunk.from_start);
  put(d.k, k_rows + k_columns + d_k_start * chunk.from_start + d_k_end * chunk.to_end);
  put(d.v, d_error);
  put(d.beta, (d_right * error).sum(-1) + (d_lower * chunk.keys).sum(-1));
  put(d.decay, d_sums.flip(1).cumsum(1).flip(1));
  d_state = chunk.whole * d_state + chunk.q_start.transpose(1, 2).matmul(d_out) -
            chunk.k_start.transpose(1, 2).matmul(d_error);
}

}  // namespace

internal::DeltaRuleForward delta_rule_chunked_forward(const DeltaRuleArguments& arguments) {
  const DeltaHeads heads(arguments);
  internal::DeltaRuleForward result;
  result.final_state = first_states(arguments);
  at::Tensor out = at::empty_like(heads.v);
  const auto offsets = internal::delta_chunk_offsets(arguments.cu);
  if (arguments.keeps_states) {
    auto sizes = result.final_state.sizes().vec();
    sizes[0] = offsets.back();
    result.states = at::empty(sizes, result.final_state.options());
  }
  for (int64_t n = 0; n < arguments.num_sequences(); ++n) {
    at::Tensor state = result.final_state[n].clone();
    int64_t row = offsets[n];
    for (int64_t t = arguments.cu[n]; t < arguments.cu[n + 1]; t += kDeltaChunk, ++row) {
      const int64_t count = std::min(kDeltaChunk, arguments.cu[n + 1] - t);
      const Chunk chunk(heads, t, count);
      if (arguments.keeps_states) result.states[row].copy_(state);
      const at::Tensor x = solve_lower(chunk.lower, chunk.beta * chunk.error(state), false);
      out.narrow(1, t, count).copy_(chunk.q_start.matmul(state) + chunk.scores.matmul(x));
      state = chunk.whole * state + chunk.k_end.transpose(1, 2).matmul(x);
    }
    result.final_state[n].copy_(state);
  }
  result.out = out.transpose(0, 1).to(arguments.inputs.v_THV.scalar_type()).contiguous();
  return result;
}

internal::DeltaRuleGradients delta_rule_chunked_backward(
    const DeltaRuleArguments& arguments, const internal::DeltaRuleBackwardArguments& wanted) {
  const DeltaHeads heads(arguments);
  DeltaHeads d = heads.zeros();
  const auto offsets = internal::delta_chunk_offsets(arguments.cu);
  const at::Tensor d_out = wanted.d_out.defined()
                               ? wanted.d_out.transpose(0, 1).to(heads.v.scalar_type())
                               : at::zeros_like(heads.v);
  at::Tensor d_initial = wanted.d_final_state.defined() ? wanted.d_final_state.clone()
                                                        : first_states(arguments).zero_();
  for (int64_t n = 0; n < arguments.num_sequences(); ++n) {
    at::Tensor d_state = d_initial[n].clone();
    for (int64_t row = offsets[n + 1] - 1; row >= offsets[n]; --row) {
      const int64_t t = arguments.cu[n] + (row - offsets[n]) * kDeltaChunk;
      const int64_t count = std::min(kDeltaChunk, arguments.cu[n + 1] - t);
      const Chunk chunk(heads, t, count);
      chunk_backward(chunk, wanted.states[row], d_out.narrow(1, t, count), d_state, d, t);
    }
    d_initial[n].copy_(d_state);
  }
  auto gradients = heads.gradients(arguments, d);
  gradients.initial_state = d_initial;
  return gradients;
}

}  // namespace headway::ops::reference
