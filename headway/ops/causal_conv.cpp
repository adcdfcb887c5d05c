// Argument checks, kernel table and autograd node of the causal convolution. Not for: arithmetic.
#include "headway/ops/causal_conv.h"

#include <algorithm>
#include <optional>

#include <ATen/Functions.h>
#include <torch/csrc/autograd/custom_function.h>

#include "headway/ops/internal/arguments.h"
#include "headway/ops/internal/causal_conv_kernel.h"
#include "headway/ops/reference/causal_conv_reference.h"

namespace headway::ops {
namespace {

using internal::CausalConvArguments;
using internal::CausalConvKernel;
using internal::throw_shape;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

constexpr char kOp[] = "causal_conv1d";

constexpr CausalConvKernel kKernels[] = {
    {"simd",
     true,
     internal::causal_conv_simd_supports,
     {internal::causal_conv_simd_forward, internal::causal_conv_simd_backward}},
    {"reference",
     false,
     [](const CausalConvArguments&) { return Support::yes(); },
     {reference::causal_conv_forward, reference::causal_conv_backward}},
};

[[maybe_unused]] const bool kRegistered = register_table(kOp, kKernels);

void check_sizes(const char* name, const at::Tensor& x, const std::vector<int64_t>& wanted,
                 const char* layout) {
  if (x.sizes() == wanted) return;
  std::ostringstream text;
  text << at::IntArrayRef(wanted) << ", " << layout;
  throw_shape(kOp, name, x.sizes(), text.str());
}

void check_arguments(const CausalConvInputs& in, const Sequences& sequences) {
  const at::Tensor& x = in.x_TC;
  internal::check_dims(kOp, "x", x, 2, "[T,C]");
  internal::check_floating(kOp, "x", x);
  if (x.size(1) < 1) throw_shape(kOp, "x", x.sizes(), "[T,C] with C >= 1");
  if (x.size(1) > 1 && x.stride(1) != 1) {
    throw_shape(kOp, "x", x.strides(), "strides with a contiguous last dimension");
  }
  internal::check_dims(kOp, "weight", in.weight_CW, 2, "[C,W]");
  internal::check_like(kOp, "weight", in.weight_CW, "x", x);
  const int64_t taps = in.weight_CW.size(1);
  if (taps < 1) throw_shape(kOp, "weight", in.weight_CW.sizes(), "at least one tap");
  check_sizes("weight", in.weight_CW, {x.size(1), taps}, "[C,W]");
  if (in.bias_C.defined()) {
    check_sizes("bias", in.bias_C, {x.size(1)}, "[C]");
    internal::check_like(kOp, "bias", in.bias_C, "x", x);
  }
  check_sequences(sequences, x.size(0), sequences.cu_k.back(), kOp);
  if (in.initial_state_NPC.defined()) {
    check_sizes("initial_state", in.initial_state_NPC,
                {sequences.num_sequences(), taps - 1, x.size(1)}, "[N,W-1,C]");
    internal::check_like(kOp, "initial_state", in.initial_state_NPC, "x", x);
  }
}

/// The last P rows of [initial state; inputs] of every sequence.
at::Tensor last_inputs(const CausalConvArguments& a) {
  const int64_t past = a.taps() - 1;
  const at::Tensor& initial = a.inputs.initial_state_NPC;
  at::Tensor last = at::zeros({a.num_sequences(), past, a.channels()}, a.inputs.x_TC.options());
  for (int64_t n = 0; n < a.num_sequences(); ++n) {
    const int64_t length = a.cu[n + 1] - a.cu[n];
    const int64_t fresh = std::min(length, past), kept = past - fresh;
    if (fresh > 0) {
      last[n].narrow(0, kept, fresh).copy_(a.inputs.x_TC.narrow(0, a.cu[n + 1] - fresh, fresh));
    }
    if (kept > 0 && initial.defined()) {
      last[n].narrow(0, 0, kept).copy_(initial[n].narrow(0, fresh, kept));
    }
  }
  return last;
}

using MaybeTensor = std::optional<at::Tensor>;

MaybeTensor maybe(const at::Tensor& x) { return x.defined() ? MaybeTensor(x) : std::nullopt; }

class CausalConvFunction : public torch::autograd::Function<CausalConvFunction> {
 public:
  static variable_list forward(AutogradContext* context, const at::Tensor& x,
                               const at::Tensor& weight, const MaybeTensor& bias,
                               const MaybeTensor& initial, const std::vector<int64_t>& cu,
                               ConvActivation activation) {
    const CausalConvArguments arguments{
        {x, weight, bias.value_or(at::Tensor()), initial.value_or(at::Tensor())}, cu, activation};
    context->save_for_backward(
        {x, weight, arguments.inputs.bias_C, arguments.inputs.initial_state_NPC});
    context->saved_data["cu"] = cu;
    context->saved_data["activation"] = static_cast<int64_t>(activation);
    context->set_materialize_grads(false);
    return {select_kernel(kOp, kKernels, arguments).run.forward(arguments), last_inputs(arguments)};
  }

  static variable_list backward(AutogradContext* context, const variable_list& grads) {
    variable_list result(6);
    if (!grads[0].defined() && !grads[1].defined()) return result;
    const auto saved = context->get_saved_variables();
    const std::vector<int64_t> cu = context->saved_data["cu"].toIntVector();
    const CausalConvArguments arguments{
        {saved[0], saved[1], saved[2], saved[3]},
        cu,
        static_cast<ConvActivation>(context->saved_data["activation"].toInt())};
    internal::CausalConvCotangents cotangents{grads[0], grads[1]};
    if (cotangents.out.defined() && cotangents.out.stride(1) != 1) {
      cotangents.out = cotangents.out.contiguous();
    }
    auto gradients = select_kernel(kOp, kKernels, arguments).run.backward(arguments, cotangents);
    result[0] = gradients.x;
    result[1] = gradients.weight;
    result[2] = gradients.bias;
    result[3] = gradients.initial_state;
    return result;
  }
};

}  // namespace

CausalConvResult causal_conv1d(const CausalConvInputs& in, const Sequences& sequences,
                               ConvActivation activation) {
  check_arguments(in, sequences);
  if (!internal::records_gradient(in.x_TC, in.weight_CW, in.bias_C, in.initial_state_NPC)) {
    const CausalConvArguments arguments{in, sequences.cu_q, activation};
    return {select_kernel(kOp, kKernels, arguments).run.forward(arguments), last_inputs(arguments)};
  }
  const auto result =
      CausalConvFunction::apply(in.x_TC, in.weight_CW, maybe(in.bias_C),
                                maybe(in.initial_state_NPC), sequences.cu_q, activation);
  return {result[0], result[1]};
}

}  // namespace headway::ops
