// One sequence after another, one tap after another. Not for: argument checks (causal_conv.cpp).
#include "headway/ops/reference/causal_conv_reference.h"

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>

#include "headway/ops/internal/arguments.h"

namespace headway::ops::reference {
namespace {

using internal::CausalConvArguments;

/// [P + length, C]: what the window of a sequence slides over, in the dtype of the sums.
at::Tensor padded(const CausalConvArguments& a, int64_t n) {
  const at::ScalarType type = internal::accumulate_type(a.inputs.x_TC);
  const at::Tensor x = a.inputs.x_TC.narrow(0, a.cu[n], a.cu[n + 1] - a.cu[n]).to(type);
  const at::Tensor& initial = a.inputs.initial_state_NPC;
  const at::Tensor past = initial.defined() ? initial[n].to(type)
                                            : at::zeros({a.taps() - 1, a.channels()}, x.options());
  return at::cat({past, x});
}

at::Tensor before_activation(const CausalConvArguments& a, const at::Tensor& window) {
  const int64_t length = window.size(0) - a.taps() + 1;
  const at::Tensor weight = a.inputs.weight_CW.to(window.scalar_type());
  at::Tensor sum = at::zeros({length, a.channels()}, window.options());
  if (a.inputs.bias_C.defined()) sum = sum + a.inputs.bias_C.to(window.scalar_type());
  for (int64_t j = 0; j < a.taps(); ++j) {
    sum = sum + window.narrow(0, j, length) * weight.select(1, j);
  }
  return sum;
}

/// Gradient by the sum before the activation.
at::Tensor through_activation(ConvActivation activation, const at::Tensor& sum,
                              const at::Tensor& d_out) {
  if (activation == ConvActivation::kNone) return d_out;
  const at::Tensor sigma = sum.sigmoid();
  return d_out * sigma * (1 + sum * (-sum).sigmoid());
}

}  // namespace

at::Tensor causal_conv_forward(const CausalConvArguments& a) {
  at::Tensor out = at::empty(a.inputs.x_TC.sizes(), a.inputs.x_TC.options());
  for (int64_t n = 0; n < a.num_sequences(); ++n) {
    at::Tensor sum = before_activation(a, padded(a, n));
    if (a.activation == ConvActivation::kSilu) sum = sum * sum.sigmoid();
    out.narrow(0, a.cu[n], a.cu[n + 1] - a.cu[n]).copy_(sum);
  }
  return out;
}

internal::CausalConvGradients causal_conv_backward(
    const CausalConvArguments& a, const internal::CausalConvCotangents& cotangents) {
  const at::Tensor& x = a.inputs.x_TC;
  const at::ScalarType type = internal::accumulate_type(x);
  const int64_t past = a.taps() - 1;
  const at::Tensor weight = a.inputs.weight_CW.to(type);
  at::Tensor d_weight = at::zeros_like(weight);
  at::Tensor d_bias = at::zeros({a.channels()}, weight.options());
  internal::CausalConvGradients gradients;
  gradients.x = at::empty(x.sizes(), x.options());
  const auto state_options = x.options();
  at::Tensor d_initial = at::zeros({a.num_sequences(), past, a.channels()}, state_options);
  for (int64_t n = 0; n < a.num_sequences(); ++n) {
    const int64_t begin = a.cu[n], length = a.cu[n + 1] - begin;
    const at::Tensor window = padded(a, n);
    at::Tensor d_window = at::zeros_like(window);
    if (cotangents.final_state.defined()) {
      d_window.narrow(0, length, past).add_(cotangents.final_state[n].to(type));
    }
    if (cotangents.out.defined()) {
      const at::Tensor d_sum = through_activation(a.activation, before_activation(a, window),
                                                  cotangents.out.narrow(0, begin, length).to(type));
      for (int64_t j = 0; j < a.taps(); ++j) {
        d_window.narrow(0, j, length).add_(d_sum * weight.select(1, j));
        d_weight.select(1, j).add_((d_sum * window.narrow(0, j, length)).sum(0));
      }
      d_bias.add_(d_sum.sum(0));
    }
    d_initial[n].copy_(d_window.narrow(0, 0, past));
    gradients.x.narrow(0, begin, length).copy_(d_window.narrow(0, past, length));
  }
  gradients.weight = d_weight.to(x.scalar_type());
  if (a.inputs.bias_C.defined()) gradients.bias = d_bias.to(x.scalar_type());
  if (a.inputs.initial_state_NPC.defined()) gradients.initial_state = d_initial;
  return gradients;
}

}  // namespace headway::ops::reference
