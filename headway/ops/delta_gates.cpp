// Checks, arithmetic and autograd node of the decay; the unit-length map by rms_norm.
// Not for: fast kernels (the tensors are a hundredth of the rule's).
#include "headway/ops/delta_gates.h"

#include <cmath>

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>
#include <torch/csrc/autograd/custom_function.h>

#include "headway/ops/internal/arguments.h"
#include "headway/ops/norm.h"

namespace headway::ops {
namespace {

using internal::throw_shape;
using torch::autograd::variable_list;

constexpr char kOp[] = "delta_decay";

/// A_log or dt_bias [H] beside a [T,H,K].
at::Tensor beside(const at::Tensor& vector, const at::Tensor& a) {
  return vector.dim() == 1 && a.dim() == 3 ? vector.unsqueeze(-1) : vector;
}

struct Decay {
  Decay(const at::Tensor& a, const at::Tensor& log_rate, const at::Tensor& dt_bias)
      : rate(beside(log_rate.to(internal::accumulate_type(a)), a).exp()),
        logits(a.to(rate.scalar_type()) + beside(dt_bias.to(rate.scalar_type()), a)) {}
  at::Tensor value() const { return -rate * at::softplus(logits, 1, 20); }

  at::Tensor rate, logits;
};

class DecayFunction : public torch::autograd::Function<DecayFunction> {
 public:
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& a,
                            const at::Tensor& log_rate, const at::Tensor& dt_bias) {
    context->save_for_backward({a, log_rate, dt_bias});
    return Decay(a, log_rate, dt_bias).value();
  }

  static variable_list backward(torch::autograd::AutogradContext* context,
                                const variable_list& grads) {
    const auto saved = context->get_saved_variables();
    const at::Tensor &a = saved[0], &log_rate = saved[1], &dt_bias = saved[2];
    const Decay decay(a, log_rate, dt_bias);
    const at::Tensor& d_g = grads[0];
    const at::Tensor d_a = -d_g * decay.rate * decay.logits.sigmoid();
    at::Tensor d_rate = (d_g * decay.value()).sum(0);
    if (d_rate.dim() == 2) d_rate = d_rate.sum(-1);
    at::Tensor d_bias = d_a.sum(0);
    if (d_bias.dim() > dt_bias.dim()) d_bias = d_bias.sum(-1);
    return {d_a.to(a.scalar_type()), d_rate.to(log_rate.scalar_type()),
            d_bias.to(dt_bias.scalar_type())};
  }
};

void check_vector(const char* name, const at::Tensor& x, const at::Tensor& a, bool channels) {
  if (!x.defined()) throw_shape(kOp, name, "undefined", "a tensor");
  internal::check_floating(kOp, name, x);
  const bool heads = x.dim() == 1 && x.size(0) == a.size(1);
  const bool all = channels && a.dim() == 3 && x.sizes() == a.sizes().slice(1);
  if (!heads && !all) {
    throw_shape(kOp, name, x.sizes(), "[" + std::to_string(a.size(1)) + "], one per head of a");
  }
}

}  // namespace

at::Tensor delta_decay(const at::Tensor& a, const at::Tensor& log_rate, const at::Tensor& dt_bias) {
  if (!a.defined() || (a.dim() != 2 && a.dim() != 3)) {
    if (!a.defined()) throw_shape(kOp, "a", "undefined", "[T,H] or [T,H,K]");
    throw_shape(kOp, "a", a.sizes(), "[T,H] or [T,H,K]");
  }
  internal::check_floating(kOp, "a", a);
  check_vector("A_log", log_rate, a, false);
  check_vector("dt_bias", dt_bias, a, true);
  if (!internal::records_gradient(a, log_rate, dt_bias)) {
    return Decay(a, log_rate, dt_bias).value();
  }
  return DecayFunction::apply(a, log_rate, dt_bias);
}

at::Tensor l2_norm(const at::Tensor& x, double eps) {
  // mean(x²) + eps/C is (Σx² + eps)/C.
  const auto channels = static_cast<double>(x.size(-1));
  return rms_norm(x, {}, eps / channels, NormFlavour::kNoWeight) / std::sqrt(channels);
}

}  // namespace headway::ops
