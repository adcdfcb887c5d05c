// Argument checks, kernel table and autograd node of route. Not for: arithmetic, or losses
// (router_balance.cpp).
#include "headway/ops/router.h"

#include <cmath>
#include <optional>

#include <ATen/Functions.h>
#include <torch/csrc/autograd/custom_function.h>

#include "headway/ops/internal/arguments.h"
#include "headway/ops/internal/router_kernel.h"
#include "headway/ops/reference/router_reference.h"

namespace headway::ops {
namespace {

using internal::RouterArguments;
using internal::RouterKernel;
using internal::throw_shape;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

constexpr char kOp[] = "route";

constexpr RouterKernel kKernels[] = {
    {"rows",
     false,
     internal::route_rows_supports,
     {internal::route_rows_forward, internal::route_rows_backward}},
    {"reference",
     false,
     [](const RouterArguments&) { return Support::yes(); },
     {reference::route_forward, reference::route_backward}},
};

[[maybe_unused]] const bool kRegistered = register_table(kOp, kKernels);

void check_groups(const RouterOptions& o, int64_t experts) {
  if (o.num_groups < 1 || experts % o.num_groups != 0) {
    throw_shape(kOp, "num_groups", o.num_groups,
                "a divisor of the number of experts (= " + std::to_string(experts) + ")");
  }
  if (o.kept_groups < 1 || o.kept_groups > o.num_groups) {
    throw_shape(kOp, "kept_groups", o.kept_groups, "1 to num_groups");
  }
  const int64_t members = experts / o.num_groups;
  if (o.best_of_group < 1 || o.best_of_group > members) {
    throw_shape(kOp, "best_of_group", o.best_of_group,
                "1 to the experts of a group (= " + std::to_string(members) + ")");
  }
  const int64_t available = members * o.kept_groups;
  if (o.top_k < 1 || o.top_k > available) {
    throw_shape(kOp, "top_k", o.top_k,
                "1 to the experts a token can choose from (= " + std::to_string(available) + ")");
  }
}

void check(const at::Tensor& logits, const at::Tensor& bias, const RouterOptions& options,
           const at::Tensor& keys) {
  internal::check_dims(kOp, "logits", logits, 2, "[T,E]");
  internal::check_floating(kOp, "logits", logits);
  if (logits.size(1) < 1) throw_shape(kOp, "logits", logits.sizes(), "[T,E] with E >= 1");
  check_groups(options, logits.size(1));
  if (!std::isfinite(options.scale)) throw_shape(kOp, "scale", options.scale, "a finite number");
  if (keys.defined() &&
      (keys.sizes() != logits.sizes() || keys.scalar_type() != internal::accumulate_type(logits))) {
    throw_shape(kOp, "keys", keys.sizes(), "the shape of logits, in the dtype of the weights");
  }
  if (keys.defined() && (bias.defined() || options.kept_groups != options.num_groups)) {
    throw_shape(kOp, "keys", keys.sizes(), "none with a bias or groups");
  }
  if (!bias.defined()) return;
  if (options.score == RouterScore::kSoftmax) {
    throw_shape(kOp, "bias", bias.sizes(), "none with softmax scores");
  }
  internal::check_dims(kOp, "bias", bias, 1, "[E]");
  const at::ScalarType wide = internal::accumulate_type(logits);
  if (bias.size(0) != logits.size(1) || bias.scalar_type() != wide) {
    throw_shape(kOp, "bias", bias.sizes(),
                "[" + std::to_string(logits.size(1)) + "] of " + c10::toString(wide));
  }
}

Routing run_forward(const RouterArguments& arguments) {
  return select_kernel(kOp, kKernels, arguments).run.forward(arguments);
}

/// Options of a node; saved_data holds plain values only.
void save_options(AutogradContext* context, const RouterOptions& o) {
  context->saved_data["integers"] = std::vector<int64_t>{
      o.top_k, static_cast<int64_t>(o.score), o.num_groups, o.kept_groups, o.best_of_group};
  context->saved_data["normalize"] = o.normalize;
  context->saved_data["scale"] = o.scale;
}

RouterOptions saved_options(AutogradContext* context) {
  const std::vector<int64_t> integers = context->saved_data["integers"].toIntVector();
  RouterOptions o;
  o.top_k = integers[0];
  o.score = static_cast<RouterScore>(integers[1]);
  o.num_groups = integers[2];
  o.kept_groups = integers[3];
  o.best_of_group = integers[4];
  o.normalize = context->saved_data["normalize"].toBool();
  o.scale = context->saved_data["scale"].toDouble();
  return o;
}

class RouteFunction : public torch::autograd::Function<RouteFunction> {
 public:
  static variable_list forward(AutogradContext* context, const at::Tensor& logits,
                               const std::optional<at::Tensor>& bias,
                               const std::optional<at::Tensor>& keys,
                               const RouterOptions& options) {
    const Routing routing =
        run_forward({logits, bias.value_or(at::Tensor()), options, keys.value_or(at::Tensor())});
    context->save_for_backward({logits, routing.experts_TK});
    save_options(context, options);
    context->mark_non_differentiable({routing.experts_TK});
    return {routing.weights_TK, routing.experts_TK};
  }

  static variable_list backward(AutogradContext* context, const variable_list& grads) {
    const auto saved = context->get_saved_variables();
    // Weights do not depend on bias and keys but through the choice.
    const RouterArguments arguments{saved[0], {}, saved_options(context), {}};
    const auto& kernel = select_kernel(kOp, kKernels, arguments);
    const at::Tensor none;
    return {kernel.run.backward(arguments, saved[1], grads[0]), none, none, none};
  }
};

}  // namespace

Routing route(const at::Tensor& logits_TE, const at::Tensor& bias_E, const RouterOptions& options,
              const at::Tensor& keys_TE) {
  check(logits_TE, bias_E, options, keys_TE);
  if (!internal::records_gradient(logits_TE)) {
    return run_forward({logits_TE, bias_E, options, keys_TE});
  }
  const auto optional = [](const at::Tensor& x) {
    return x.defined() ? std::optional<at::Tensor>(x) : std::nullopt;
  };
  const variable_list result =
      RouteFunction::apply(logits_TE, optional(bias_E), optional(keys_TE), options);
  return {result[0], result[1]};
}

}  // namespace headway::ops
