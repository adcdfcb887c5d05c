// The recurrence and its adjoint as they read. Not for: argument checks (delta_rule.cpp).
#include "headway/ops/reference/delta_rule_reference.h"

#include <vector>

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>

#include "headway/ops/internal/arguments.h"
#include "headway/ops/reference/delta_rule_heads.h"

namespace headway::ops::reference {
namespace {

using internal::DeltaRuleArguments;
using internal::kDeltaChunk;

/// One token of every head: S [H,K,V], vectors as columns [H,·,1].
struct Token {
  Token(const DeltaHeads& heads, int64_t t)
      : q(heads.q.select(1, t).unsqueeze(-1)),
        k(heads.k.select(1, t).unsqueeze(-1)),
        v(heads.v.select(1, t).unsqueeze(-1)),
        factor(heads.decay.select(1, t).unsqueeze(-1).exp()),
        beta(heads.beta.select(1, t).reshape({-1, 1, 1})) {}

  /// diag(e^g) S.
  at::Tensor decayed(const at::Tensor& state) const { return factor * state; }
  /// v - Sᵀk, S decayed.
  at::Tensor error(const at::Tensor& decayed) const {
    return v - decayed.transpose(1, 2).matmul(k);
  }
  at::Tensor next(const at::Tensor& decayed) const {
    return decayed + k.matmul((beta * error(decayed)).transpose(1, 2));
  }

  at::Tensor q, k, v, factor, beta;
};

/// Adjoint of one token; turns d_state of the state it leaves into that of the state it meets.
void step_back(const Token& token, const at::Tensor& state, const at::Tensor& d_out,
               at::Tensor& d_state, DeltaHeads& d, int64_t t) {
  const at::Tensor decayed = token.decayed(state);
  const at::Tensor error = token.error(decayed);
  const at::Tensor after = decayed + token.k.matmul((token.beta * error).transpose(1, 2));
  d_state = d_state + token.q.matmul(d_out.transpose(1, 2));
  const at::Tensor d_update = d_state.transpose(1, 2).matmul(token.k);  // of β·error, [H,V,1]
  const at::Tensor d_error = token.beta * d_update;
  d.q.select(1, t).copy_(after.matmul(d_out).squeeze(-1));
  d.k.select(1, t).copy_(
      (d_state.matmul(token.beta * error) - decayed.matmul(d_error)).squeeze(-1));
  d.v.select(1, t).copy_(d_error.squeeze(-1));
  d.beta.select(1, t).copy_((d_update * error).sum({1, 2}));
  const at::Tensor d_decayed = d_state - token.k.matmul(d_error.transpose(1, 2));
  const at::Tensor d_decay = (d_decayed * decayed).sum(-1);  // [H,K]
  d.decay.select(1, t).copy_(d.decay.size(2) == 1 ? d_decay.sum(-1, true) : d_decay);
  d_state = token.decayed(d_decayed);
}

}  // namespace

internal::DeltaRuleForward delta_rule_forward(const DeltaRuleArguments& arguments) {
  const DeltaHeads heads(arguments);
  internal::DeltaRuleForward result;
  result.final_state = first_states(arguments);
  at::Tensor out = at::empty_like(heads.v);
  std::vector<at::Tensor> states;
  for (int64_t n = 0; n < arguments.num_sequences(); ++n) {
    at::Tensor state = result.final_state[n];
    for (int64_t t = arguments.cu[n]; t < arguments.cu[n + 1]; ++t) {
      if (arguments.keeps_states && (t - arguments.cu[n]) % kDeltaChunk == 0) {
        states.push_back(state.clone());
      }
      const Token token(heads, t);
      state = token.next(token.decayed(state));
      out.select(1, t).copy_(state.transpose(1, 2).matmul(token.q).squeeze(-1));
    }
    result.final_state[n].copy_(state);
  }
  if (arguments.keeps_states) {
    result.states = states.empty() ? result.final_state.narrow(0, 0, 0) : at::stack(states);
  }
  result.out = out.transpose(0, 1).to(arguments.inputs.v_THV.scalar_type()).contiguous();
  return result;
}

internal::DeltaRuleGradients delta_rule_backward(
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
    const int64_t begin = arguments.cu[n];
    std::vector<at::Tensor> before;  // the state every token meets
    for (int64_t t = begin; t < arguments.cu[n + 1]; ++t) {
      if (t == begin) before.push_back(wanted.states[offsets[n]]);
      const Token token(heads, t);
      before.push_back(token.next(token.decayed(before.back())));
    }
    at::Tensor d_state = d_initial[n];
    for (int64_t t = arguments.cu[n + 1] - 1; t >= begin; --t) {
      step_back(Token(heads, t), before[t - begin], d_out.select(1, t).unsqueeze(-1), d_state, d,
                t);
    }
    d_initial[n].copy_(d_state);
  }
  auto gradients = heads.gradients(arguments, d);
  gradients.initial_state = d_initial;
  return gradients;
}

}  // namespace headway::ops::reference
