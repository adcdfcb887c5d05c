// Not for: anything but numeric_gradient.h.
#include "tests/support/numeric_gradient.h"

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>

#include "tests/support/tensors.h"

namespace headway::test {
namespace {

/// Σ cotangent_i·outputs_i with cotangents fixed by the seed.
at::Tensor project(const std::vector<at::Tensor>& outputs, uint64_t seed) {
  at::Tensor total = at::zeros({}, at::kDouble);
  for (size_t i = 0; i < outputs.size(); ++i) {
    total = total + (outputs[i] * normal_tensor(outputs[i].sizes(), at::kDouble, seed + i)).sum();
  }
  return total;
}

}  // namespace

testing::AssertionResult gradients_agree(const TensorFunction& function,
                                         std::vector<at::Tensor> inputs, uint64_t seed,
                                         double tolerance) {
  constexpr double kStep = 1e-5;
  for (at::Tensor& input : inputs) {
    if (input.defined()) input = input.detach().requires_grad_();
  }
  project(function(inputs), seed).backward();
  const at::NoGradGuard no_grad;
  for (size_t i = 0; i < inputs.size(); ++i) {
    if (!inputs[i].defined()) continue;
    if (!inputs[i].grad().defined()) {
      return testing::AssertionFailure() << "input " << i << " got no gradient";
    }
    const at::Tensor direction = normal_tensor(inputs[i].sizes(), at::kDouble, seed + 100 + i);
    const auto moved = [&](double step) {
      std::vector<at::Tensor> there = inputs;
      there[i] = inputs[i] + step * direction;
      return project(function(there), seed).item<double>();
    };
    const double numeric = (moved(kStep) - moved(-kStep)) / (2 * kStep);
    const double analytic = (inputs[i].grad() * direction).sum().item<double>();
    const double scale = (inputs[i].grad() * direction).abs().sum().item<double>() + 1.0;
    if (!(std::abs(numeric - analytic) <= tolerance * scale)) {
      return testing::AssertionFailure() << "input " << i << ": analytic " << analytic
                                         << ", numeric " << numeric << ", scale " << scale;
    }
  }
  return testing::AssertionSuccess();
}

}  // namespace headway::test
