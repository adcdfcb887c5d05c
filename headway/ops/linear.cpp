// Argument checks, kernel table and autograd nodes of linear, split_columns and scaled_residual.
// Not for: arithmetic beyond calls of the library's GEMM.
#include "headway/ops/linear.h"

#include <algorithm>
#include <numeric>
#include <optional>

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>
#include <torch/csrc/autograd/custom_function.h>

#include "headway/ops/internal/alias.h"
#include "headway/ops/internal/arguments.h"
#include "headway/ops/internal/linear_kernel.h"
#include "headway/ops/kernel_table.h"
#include "headway/ops/reference/linear_reference.h"

namespace headway::ops {
namespace {

using internal::LinearArguments;
using internal::LinearKernel;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

constexpr char kLinear[] = "linear";
constexpr char kSplit[] = "split_columns";
constexpr char kResidual[] = "scaled_residual";

constexpr LinearKernel kKernels[] = {
    {"gemv", true, internal::gemv_supports, {internal::gemv_forward}},
    {"reference",
     false,
     [](const LinearArguments&) { return Support::yes(); },
     {reference::linear_forward}},
};

[[maybe_unused]] const bool kRegistered = register_table(kLinear, kKernels);

void check_linear(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias) {
  internal::check_dims(kLinear, "x", x, 2, "[T,I]");
  internal::check_floating(kLinear, "x", x);
  internal::check_dims(kLinear, "weight", weight, 2, "[O,I]");
  internal::check_like(kLinear, "weight", weight, "x", x);
  if (weight.size(1) != x.size(1)) {
    internal::throw_shape(kLinear, "weight", weight.sizes(),
                          "[O," + std::to_string(x.size(1)) + "], as wide as x");
  }
  if (!bias.defined()) return;
  internal::check_dims(kLinear, "bias", bias, 1, "[O]");
  internal::check_like(kLinear, "bias", bias, "x", x);
  if (bias.size(0) != weight.size(0)) {
    internal::throw_shape(kLinear, "bias", bias.sizes(),
                          "[" + std::to_string(weight.size(0)) + "], the rows of weight");
  }
}

at::Tensor run_linear(const LinearArguments& arguments) {
  return select_kernel(kLinear, kKernels, arguments).run.forward(arguments);
}

class LinearFunction : public torch::autograd::Function<LinearFunction> {
 public:
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x, const at::Tensor& weight,
                            const std::optional<at::Tensor>& bias) {
    context->save_for_backward({x, weight});
    context->saved_data["bias"] = bias.has_value();
    return run_linear({x, weight, bias.value_or(at::Tensor())});
  }

  static variable_list backward(AutogradContext* context, const variable_list& grads) {
    const auto saved = context->get_saved_variables();
    const at::Tensor& dy = grads[0];
    variable_list result(3);
    if (context->needs_input_grad(0)) result[0] = at::mm(dy, saved[1]);
    const bool bias = context->saved_data["bias"].toBool() && context->needs_input_grad(2);
    const LinearWgrad wgrad = linear_wgrad({saved[0], dy}, context->needs_input_grad(1), bias);
    result[1] = wgrad.weight_OI;
    result[2] = wgrad.bias_O;
    return result;
  }
};

/// Weight and bias are inputs so that the node exists where only they need a gradient.
class DelayedLinearFunction : public torch::autograd::Function<DelayedLinearFunction> {
 public:
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x, const at::Tensor& weight,
                            const std::optional<at::Tensor>& bias,
                            const c10::intrusive_ptr<WgradQueue>& queue) {
    context->save_for_backward({x, weight});
    context->saved_data["queue"] = c10::IValue::make_capsule(queue);
    return run_linear({x, weight, bias.value_or(at::Tensor())});
  }

  static variable_list backward(AutogradContext* context, const variable_list& grads) {
    const auto saved = context->get_saved_variables();
    const auto queue = context->saved_data["queue"].toCapsule();
    variable_list result(4);
    if (context->needs_input_grad(0)) result[0] = at::mm(grads[0], saved[1]);
    static_cast<WgradQueue&>(*queue).push({saved[0].detach(), grads[0].detach()});
    return result;
  }
};

/// Column runs as plain tensors that share x's memory. They carry no view record, for a node of
/// ours, not autograd's own slices, leads from them back to x; they share x's version counter, so
/// that writing into one is still noticed.
std::vector<at::Tensor> alias_columns(const at::Tensor& x, const std::vector<int64_t>& widths) {
  std::vector<at::Tensor> runs;
  runs.reserve(widths.size());
  int64_t begin = 0;
  for (const int64_t width : widths) {
    runs.push_back(internal::alias_run(x, 1, begin, width));
    begin += width;
  }
  return runs;
}

class SplitColumnsFunction : public torch::autograd::Function<SplitColumnsFunction> {
 public:
  static variable_list forward(AutogradContext* context, const at::Tensor& x,
                               const std::vector<int64_t>& widths) {
    context->set_materialize_grads(false);
    context->saved_data["widths"] = widths;
    return alias_columns(x, widths);
  }

  static variable_list backward(AutogradContext* context, const variable_list& grads) {
    const std::vector<int64_t> widths = context->saved_data["widths"].toIntVector();
    const auto given = std::find_if(grads.begin(), grads.end(),
                                    [](const at::Tensor& grad) { return grad.defined(); });
    if (given == grads.end()) return {at::Tensor(), at::Tensor()};
    const int64_t total = std::accumulate(widths.begin(), widths.end(), int64_t{0});
    at::Tensor dx = at::empty({given->size(0), total}, given->options());
    int64_t begin = 0;
    for (size_t i = 0; i < widths.size(); ++i) {
      at::Tensor run = dx.narrow(1, begin, widths[i]);
      if (grads[i].defined()) {
        run.copy_(grads[i]);
      } else {
        run.zero_();
      }
      begin += widths[i];
    }
    return {dx, at::Tensor()};
  }
};

class ScaledResidualFunction : public torch::autograd::Function<ScaledResidualFunction> {
 public:
  static at::Tensor forward(AutogradContext* context, const at::Tensor& residual,
                            const at::Tensor& delta, const at::Tensor& scale) {
    // The sum is needed only for the gradient of the scale.
    const bool learns_scale = scale.requires_grad();
    context->save_for_backward(
        {learns_scale ? residual : at::Tensor(), learns_scale ? delta : at::Tensor(), scale});
    return at::add(residual, delta).mul_(scale);
  }

  static variable_list backward(AutogradContext* context, const variable_list& grads) {
    const auto saved = context->get_saved_variables();
    const at::Tensor& dy = grads[0];
    variable_list result(3);
    if (context->needs_input_grad(0) || context->needs_input_grad(1)) {
      const at::Tensor d_sum = dy * saved[2];
      if (context->needs_input_grad(0)) result[0] = d_sum;
      if (context->needs_input_grad(1)) result[1] = d_sum;
    }
    if (context->needs_input_grad(2)) {
      const at::ScalarType type = internal::accumulate_type(dy);
      // Rows first, then the sums of rows: the order does not depend on the number of threads.
      const at::Tensor rows = (dy.to(type) * (saved[0].to(type) + saved[1].to(type))).sum(-1);
      result[2] = rows.reshape({1, -1}).sum(-1).to(saved[2].scalar_type());
    }
    return result;
  }
};

void check_residual(const at::Tensor& residual, const at::Tensor& delta, const at::Tensor& scale) {
  if (!residual.defined()) internal::throw_shape(kResidual, "residual", "undefined", "a tensor");
  if (!delta.defined()) internal::throw_shape(kResidual, "delta", "undefined", "a tensor");
  internal::check_floating(kResidual, "residual", residual);
  internal::check_like(kResidual, "delta", delta, "residual", residual);
  if (delta.sizes() != residual.sizes()) {
    std::ostringstream want;
    want << residual.sizes() << ", the shape of residual";
    internal::throw_shape(kResidual, "delta", delta.sizes(), want.str());
  }
  if (!scale.defined()) return;
  if (scale.dim() != 1 || scale.size(0) != 1) {
    internal::throw_shape(kResidual, "scale", scale.sizes(), "[1]");
  }
  internal::check_like(kResidual, "scale", scale, "residual", residual);
}

}  // namespace

at::Tensor linear(const at::Tensor& x_TI, const at::Tensor& weight_OI, const at::Tensor& bias_O) {
  check_linear(x_TI, weight_OI, bias_O);
  if (!internal::records_gradient(x_TI, weight_OI, bias_O)) {
    return run_linear({x_TI, weight_OI, bias_O});
  }
  // Autograd takes an absent tensor as an empty optional only.
  const auto bias = bias_O.defined() ? std::optional<at::Tensor>(bias_O) : std::nullopt;
  return LinearFunction::apply(x_TI, weight_OI, bias);
}

WgradQueue::Entry WgradQueue::pop() {
  if (entries_.empty()) throw InternalError("[delayed_linear] no weight gradient waits");
  Entry entry = std::move(entries_.front());
  entries_.pop_front();
  return entry;
}

LinearWgrad linear_wgrad(const WgradQueue::Entry& entry, bool weight, bool bias) {
  LinearWgrad wgrad;
  if (weight) wgrad.weight_OI = at::mm(entry.dy_TO.t(), entry.x_TI);
  // The library sums columns side by side, rows in a fixed order, in fp32 for 16-bit types.
  if (bias) wgrad.bias_O = entry.dy_TO.sum(0);
  return wgrad;
}

at::Tensor delayed_linear(const at::Tensor& x_TI, const at::Tensor& weight_OI,
                          const at::Tensor& bias_O, const c10::intrusive_ptr<WgradQueue>& queue) {
  if (!internal::records_gradient(weight_OI, bias_O)) return linear(x_TI, weight_OI, bias_O);
  check_linear(x_TI, weight_OI, bias_O);
  const auto bias = bias_O.defined() ? std::optional<at::Tensor>(bias_O) : std::nullopt;
  return DelayedLinearFunction::apply(x_TI, weight_OI, bias, queue);
}

std::vector<at::Tensor> split_columns(const at::Tensor& x, const std::vector<int64_t>& widths) {
  internal::check_dims(kSplit, "x", x, 2, "[T,C]");
  int64_t total = 0;
  for (const int64_t width : widths) {
    if (width < 1) internal::throw_shape(kSplit, "widths", width, "positive widths");
    total += width;
  }
  if (total != x.size(1)) {
    internal::throw_shape(kSplit, "widths", "a sum of " + std::to_string(total),
                          std::to_string(x.size(1)) + ", the columns of x");
  }
  if (!internal::records_gradient(x)) return alias_columns(x, widths);
  return SplitColumnsFunction::apply(x, widths);
}

at::Tensor scaled_residual(const at::Tensor& residual, const at::Tensor& delta,
                           const at::Tensor& scale) {
  check_residual(residual, delta, scale);
  if (!scale.defined()) return at::add(residual, delta);
  if (!internal::records_gradient(residual, delta, scale)) {
    return at::add(residual, delta).mul_(scale);
  }
  return ScaledResidualFunction::apply(residual, delta, scale);
}

}  // namespace headway::ops
