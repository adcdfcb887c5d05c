// Argument checks, kernel table and autograd node of experts. Not for: arithmetic.
#include "headway/ops/experts.h"

#include <cmath>
#include <optional>

#include <ATen/Functions.h>
#include <torch/csrc/autograd/custom_function.h>

#include "headway/ops/internal/arguments.h"
#include "headway/ops/internal/experts_kernel.h"
#include "headway/ops/reference/experts_reference.h"

namespace headway::ops {
namespace {

using internal::ExpertArguments;
using internal::ExpertsForward;
using internal::ExpertsGradients;
using internal::ExpertsKernel;
using internal::ExpertsWanted;
using internal::throw_shape;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

constexpr char kOp[] = "experts";

constexpr ExpertsKernel kKernels[] = {
    {"blocks",
     true,
     internal::experts_blocks_supports,
     {internal::experts_blocks_forward, internal::experts_blocks_backward}},
    {"reference",
     false,
     [](const ExpertArguments&) { return Support::yes(); },
     {reference::experts_forward, reference::experts_backward}},
};

[[maybe_unused]] const bool kRegistered = register_table(kOp, kKernels);

std::string sizes(int64_t rows, int64_t columns) {
  return "[" + std::to_string(rows) + "," + std::to_string(columns) + "]";
}

void check_choices(const at::Tensor& x, const at::Tensor& weights, const at::Tensor& experts) {
  internal::check_dims(kOp, "x", x, 2, "[T,I]");
  internal::check_floating(kOp, "x", x);
  internal::check_dims(kOp, "experts", experts, 2, "[T,K]");
  internal::check_dims(kOp, "weights", weights, 2, "[T,K]");
  if (experts.scalar_type() != at::kLong) {
    throw_shape(kOp, "experts", experts.scalar_type(), "int64");
  }
  if (experts.size(0) != x.size(0) || experts.size(1) < 1) {
    throw_shape(kOp, "experts", experts.sizes(), "[" + std::to_string(x.size(0)) + ",K]");
  }
  if (weights.sizes() != experts.sizes()) {
    throw_shape(kOp, "weights", weights.sizes(), "the shape of experts");
  }
  const at::ScalarType wide = internal::accumulate_type(x);
  if (weights.scalar_type() != wide) {
    throw_shape(kOp, "weights", weights.scalar_type(), c10::toString(wide));
  }
}

void check_bias(const char* name, const at::Tensor& bias, const at::Tensor& x, int64_t rows) {
  if (!bias.defined()) return;
  internal::check_dims(kOp, name, bias, 1, "[E·rows]");
  internal::check_like(kOp, name, bias, "x", x);
  if (bias.size(0) != rows) throw_shape(kOp, name, bias.sizes(), "[" + std::to_string(rows) + "]");
}

void check_weights(const at::Tensor& x, const ExpertWeights& w, const ExpertOptions& o) {
  if (o.num_experts < 1) throw_shape(kOp, "num_experts", o.num_experts, "at least 1");
  internal::check_dims(kOp, "up", w.up, 2, "[E·R,I]");
  internal::check_dims(kOp, "down", w.down, 2, "[E·O,F]");
  internal::check_like(kOp, "up", w.up, "x", x);
  internal::check_like(kOp, "down", w.down, "x", x);
  const int64_t rows = o.num_experts * w.down.size(1) * (o.gated ? 2 : 1);
  if (w.up.size(0) != rows || w.up.size(1) != x.size(1)) {
    throw_shape(kOp, "up", w.up.sizes(), sizes(rows, x.size(1)));
  }
  if (w.down.size(0) < o.num_experts || w.down.size(0) % o.num_experts != 0) {
    throw_shape(kOp, "down", w.down.sizes(), "a multiple of the number of experts as rows");
  }
  check_bias("up_bias", w.up_bias, x, w.up.size(0));
  check_bias("down_bias", w.down_bias, x, w.down.size(0));
  if (!(o.limit >= 0) || !std::isfinite(o.limit) || (o.limit > 0 && !o.gated)) {
    throw_shape(kOp, "limit", o.limit, "0 (none), or a positive finite number with a gate");
  }
  if (!std::isfinite(o.offset) || (o.offset != 0 && !o.gated)) {
    throw_shape(kOp, "offset", o.offset, "0 (none), or a finite number with a gate");
  }
}

void check_range(const at::Tensor& experts, int64_t num_experts) {
  const int64_t* expert = experts.const_data_ptr<int64_t>();
  for (int64_t pair = 0; pair < experts.numel(); ++pair) {
    if (expert[pair] >= num_experts) {
      throw_shape(kOp, "experts", expert[pair], "below " + std::to_string(num_experts));
    }
  }
}

ExpertsForward run_forward(const ExpertArguments& arguments, bool keep_up) {
  return select_kernel(kOp, kKernels, arguments).run.forward(arguments, keep_up);
}

using Optional = std::optional<at::Tensor>;

Optional optional(const at::Tensor& tensor) {
  return tensor.defined() ? Optional(tensor) : std::nullopt;
}

class ExpertsFunction : public torch::autograd::Function<ExpertsFunction> {
 public:
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x, const at::Tensor& w,
                            const at::Tensor& up, const Optional& up_bias, const at::Tensor& down,
                            const Optional& down_bias, const at::Tensor& experts,
                            const ExpertOptions& o) {
    const ExpertWeights weights{up, up_bias.value_or(at::Tensor()), down,
                                down_bias.value_or(at::Tensor())};
    const ExpertsForward result = run_forward({x, w, experts, weights, o}, true);
    context->save_for_backward(
        {x, w, up, weights.up_bias, down, weights.down_bias, experts, result.up_rows});
    context->saved_data["integers"] = std::vector<int64_t>{
        o.num_experts, static_cast<int64_t>(o.activation), o.gated ? 1 : 0, o.limit_input ? 1 : 0};
    context->saved_data["limit"] = o.limit;
    context->saved_data["offset"] = o.offset;
    return result.y;
  }

  static variable_list backward(AutogradContext* context, const variable_list& grads) {
    const auto saved = context->get_saved_variables();
    const auto integers = context->saved_data["integers"].toIntVector();
    const ExpertOptions options{integers[0],      static_cast<ActivationKind>(integers[1]),
                                integers[2] != 0, context->saved_data["limit"].toDouble(),
                                integers[3] != 0, context->saved_data["offset"].toDouble()};
    const ExpertArguments arguments{
        saved[0], saved[1], saved[6], {saved[2], saved[3], saved[4], saved[5]}, options};
    // An absent bias is no edge of the graph: those after it move up.
    size_t edge = 0;
    const auto needs = [&](const at::Tensor& input) {
      return input.defined() && context->needs_input_grad(edge++);
    };
    ExpertsWanted wanted;
    wanted.x = needs(saved[0]);
    wanted.weights = needs(saved[1]);
    wanted.up = needs(saved[2]);
    wanted.up_bias = needs(saved[3]);
    wanted.down = needs(saved[4]);
    wanted.down_bias = needs(saved[5]);
    const ExpertsGradients g =
        select_kernel(kOp, kKernels, arguments)
            .run.backward(arguments, saved[7], grads[0].contiguous(), wanted);
    return {g.x, g.weights, g.up, g.up_bias, g.down, g.down_bias, at::Tensor(), at::Tensor()};
  }
};

}  // namespace

at::Tensor experts(const at::Tensor& x_TI, const at::Tensor& weights_TK,
                   const at::Tensor& experts_TK, const ExpertWeights& weights,
                   const ExpertOptions& options) {
  check_choices(x_TI, weights_TK, experts_TK);
  check_weights(x_TI, weights, options);
  const at::Tensor chosen = experts_TK.cpu().contiguous();
  check_range(chosen, options.num_experts);
  const at::Tensor x = x_TI.contiguous(), w = weights_TK.contiguous();
  const bool records = internal::records_gradient(x, w, weights.up, weights.up_bias, weights.down,
                                                  weights.down_bias);
  if (!records) return run_forward({x, w, chosen, weights, options}, false).y;
  return ExpertsFunction::apply(x, w, weights.up, optional(weights.up_bias), weights.down,
                                optional(weights.down_bias), chosen, options);
}

}  // namespace headway::ops
