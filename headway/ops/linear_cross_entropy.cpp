// Argument checks, kernel table and autograd node of linear + cross-entropy.
// Not for: arithmetic on logits.
#include "headway/ops/linear_cross_entropy.h"

#include <algorithm>
#include <cmath>

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/csrc/autograd/graph_task.h>

#include "headway/ops/internal/arguments.h"
#include "headway/ops/internal/linear_cross_entropy_kernel.h"
#include "headway/ops/kernel_table.h"
#include "headway/ops/reference/linear_cross_entropy_reference.h"

namespace headway::ops {
namespace {

using internal::CrossEntropyArguments;
using internal::CrossEntropyKernel;
using internal::CrossEntropySums;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

constexpr char kOp[] = "linear_cross_entropy";

constexpr CrossEntropyKernel kKernels[] = {
    {"chunked", true, internal::cross_entropy_simd_supports, {internal::cross_entropy_simd}},
    {"library",
     false,
     [](const CrossEntropyArguments&) { return Support::yes(); },
     {internal::cross_entropy_library}},
    {"reference",
     false,
     [](const CrossEntropyArguments&) { return Support::yes(); },
     {reference::linear_cross_entropy}},
};

[[maybe_unused]] const bool kRegistered = register_table(kOp, kKernels);

void check_options(const CrossEntropyOptions& options) {
  const auto check = [](const char* name, double value) {
    if (value >= 0 && std::isfinite(value)) return;
    std::ostringstream text;
    text << "[" << kOp << "] options." << name << " = " << value
         << ", allowed 0 (off) or a positive finite number";
    throw ConfigError(text.str());
  };
  check("softcap", options.softcap);
  check("z_loss", options.z_loss);
  check("divisor", static_cast<double>(options.divisor));
}

void check_arguments(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& labels) {
  internal::check_dims(kOp, "x", x, 2, "[T,D]");
  internal::check_floating(kOp, "x", x);
  internal::check_dims(kOp, "weight", weight, 2, "[V,D]");
  internal::check_like(kOp, "weight", weight, "x", x);
  if (weight.size(1) != x.size(1)) {
    internal::throw_shape(kOp, "weight", weight.sizes(),
                          "[V," + std::to_string(x.size(1)) + "], as wide as x");
  }
  internal::check_dims(kOp, "labels", labels, 1, "[T]");
  if (labels.scalar_type() != at::kLong) {
    internal::throw_shape(kOp, "labels", labels.scalar_type(), "int64");
  }
  if (labels.size(0) != x.size(0)) {
    internal::throw_shape(kOp, "labels", labels.sizes(),
                          "[" + std::to_string(x.size(0)) + "], one per row of x");
  }
}

/// Rows that count, in order, on the CPU. Throws on the first label outside [0,V).
std::vector<int64_t> counted_rows(const at::Tensor& labels, int64_t vocabulary, int64_t ignored) {
  const at::Tensor host = labels.cpu().contiguous();
  const int64_t* values = host.const_data_ptr<int64_t>();
  std::vector<int64_t> rows;
  rows.reserve(host.numel());
  for (int64_t t = 0; t < host.numel(); ++t) {
    if (values[t] == ignored) continue;
    if (values[t] < 0 || values[t] >= vocabulary) {
      internal::throw_shape(kOp, ("labels[" + std::to_string(t) + "]").c_str(), values[t],
                            "0 .. " + std::to_string(vocabulary - 1) +
                                " or ignore_index (= " + std::to_string(ignored) + ")");
    }
    rows.push_back(t);
  }
  return rows;
}

struct Outcome {
  at::Tensor loss, ce, dx, dw;
};

at::Tensor scalar_like(const at::Tensor& x, double value) {
  return at::full({}, value, x.options().dtype(internal::accumulate_type(x)));
}

/// Everything but autograd; `rows` are the counted tokens.
Outcome run(CrossEntropyArguments a, const std::vector<int64_t>& rows, at::IntArrayRef x_sizes) {
  if (rows.empty()) {
    Outcome none{scalar_like(a.x, 0), scalar_like(a.x, 0), {}, {}};
    if (a.wants_dx) none.dx = at::zeros(x_sizes, a.x.options());
    if (a.wants_dw) none.dw = at::zeros(a.weight.sizes(), a.weight.options());
    return none;
  }
  const bool all = static_cast<int64_t>(rows.size()) == x_sizes[0];
  at::Tensor index;
  if (!all) {
    index = at::tensor(rows, at::kLong).to(a.x.device());
    a.x = a.x.index_select(0, index);
    a.labels = a.labels.index_select(0, index);
  }
  a.x = a.x.contiguous();
  a.weight = a.weight.contiguous();
  a.labels = a.labels.contiguous();
  const CrossEntropySums sums = select_kernel(kOp, kKernels, a).run.run(a);
  Outcome outcome{scalar_like(a.x, (sums.ce + a.z_loss * sums.z2) / a.divisor),
                  scalar_like(a.x, sums.ce / a.divisor), sums.dx, sums.dw};
  if (!all && a.wants_dx) {
    outcome.dx = at::zeros(x_sizes, a.x.options()).index_copy_(0, index, sums.dx);
  }
  return outcome;
}

/// The gradient formed in forward times the loss's own. It leaves the context, so that autograd
/// finds itself the only owner and keeps it without a copy; a graph that is kept gets a new tensor.
at::Tensor take_scaled(AutogradContext* context, const char* name, const at::Tensor& grad) {
  const auto found = context->saved_data.find(name);
  if (found == context->saved_data.end()) {
    throw InternalError(std::string("[") + kOp + "] backward runs a second time, allowed once " +
                        "unless the graph is kept");
  }
  const bool keeps = torch::autograd::get_current_graph_task_keep_graph();
  at::Tensor value = found->second.toTensor();
  if (keeps) return value * grad;
  context->saved_data.erase(found);
  const bool is_one = grad.device().is_cpu() && grad.item<double>() == 1.0;
  return is_one ? value : value.mul_(grad);
}

class LinearCrossEntropyFunction : public torch::autograd::Function<LinearCrossEntropyFunction> {
 public:
  static variable_list forward(AutogradContext* context, const at::Tensor& x,
                               const at::Tensor& weight, CrossEntropyArguments arguments,
                               const std::vector<int64_t>& rows) {
    arguments.x = x;
    arguments.weight = weight;
    Outcome outcome = run(arguments, rows, x.sizes());
    if (outcome.dx.defined()) context->saved_data["dx"] = std::move(outcome.dx);
    if (outcome.dw.defined()) context->saved_data["dw"] = std::move(outcome.dw);
    context->mark_non_differentiable({outcome.ce});
    context->set_materialize_grads(false);
    return {outcome.loss, outcome.ce};
  }

  static variable_list backward(AutogradContext* context, const variable_list& grads) {
    variable_list result(4);
    if (!grads[0].defined()) return result;
    if (context->needs_input_grad(0)) result[0] = take_scaled(context, "dx", grads[0]);
    if (context->needs_input_grad(1)) result[1] = take_scaled(context, "dw", grads[0]);
    return result;
  }
};

}  // namespace

CrossEntropyResult linear_cross_entropy(const at::Tensor& x_TD, const at::Tensor& weight_VD,
                                        const at::Tensor& labels_T,
                                        const CrossEntropyOptions& options) {
  check_arguments(x_TD, weight_VD, labels_T);
  check_options(options);
  const std::vector<int64_t> rows = counted_rows(labels_T, weight_VD.size(0), options.ignore_index);
  const int64_t counted = static_cast<int64_t>(rows.size());
  const int64_t divisor = options.divisor > 0 ? options.divisor : std::max<int64_t>(1, counted);
  CrossEntropyArguments arguments;
  arguments.labels = labels_T;
  arguments.softcap = options.softcap;
  arguments.z_loss = options.z_loss;
  arguments.divisor = static_cast<double>(divisor);
  if (!internal::records_gradient(x_TD, weight_VD)) {
    arguments.x = x_TD;
    arguments.weight = weight_VD;
    const Outcome outcome = run(arguments, rows, x_TD.sizes());
    return {outcome.loss, outcome.ce, counted};
  }
  arguments.wants_dx = x_TD.requires_grad();
  arguments.wants_dw = weight_VD.requires_grad();
  const auto results = LinearCrossEntropyFunction::apply(x_TD, weight_VD, arguments, rows);
  return {results[0], results[1], counted};
}

}  // namespace headway::ops
