// Argument checks, kernel table and autograd node of attention. Not for: arithmetic.
#include "headway/ops/attention.h"

#include <cmath>
#include <optional>
#include <sstream>

#include <ATen/core/grad_mode.h>
#include <torch/csrc/autograd/custom_function.h>

#include "headway/base/error.h"
#include "headway/ops/cpu/attention_cpu.h"
#include "headway/ops/internal/attention_kernel.h"
#include "headway/ops/kernel_table.h"
#include "headway/ops/reference/attention_reference.h"

namespace headway::ops {
namespace {

using internal::AttentionArguments;
using internal::AttentionKernel;

constexpr char kOp[] = "attention";

constexpr AttentionKernel kKernels[] = {
    {"cpu", true, cpu::attention_supports, {cpu::attention_forward, cpu::attention_backward}},
    {"reference",
     false,
     [](const AttentionArguments&) { return Support::yes(); },
     {reference::attention_forward, reference::attention_backward}},
};

[[maybe_unused]] const bool kRegistered = register_table(kOp, kKernels);

template <class Got>
[[noreturn]] void throw_shape(const char* argument, const Got& got, const std::string& allowed) {
  std::ostringstream text;
  text << "[attention] " << argument << " = " << got << ", allowed " << allowed;
  throw ShapeError(text.str());
}

[[noreturn]] void throw_option(const char* option, double got, const char* allowed) {
  std::ostringstream text;
  text << "[attention] options." << option << " = " << got << ", allowed " << allowed;
  throw ConfigError(text.str());
}

void check_tensor(const at::Tensor& x, const char* name, const at::Tensor& q) {
  if (!x.defined()) throw_shape(name, "undefined", "a tensor");
  if (x.dim() != 3) throw_shape(name, x.sizes(), "3 dimensions [tokens, heads, channels]");
  if (x.size(1) < 1 || x.size(2) < 1) throw_shape(name, x.sizes(), "at least one head and channel");
  if (x.size(2) > 1 && x.stride(2) != 1) {
    throw_shape(name, x.strides(), "strides with a contiguous last dimension");
  }
  if (x.scalar_type() != q.scalar_type()) {
    throw_shape(name, x.scalar_type(),
                std::string(c10::toString(q.scalar_type())) + ", the dtype of q");
  }
  if (x.device() != q.device())
    throw_shape(name, x.device(), q.device().str() + ", the device of q");
}

void check_tensors(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v) {
  check_tensor(q, "q", q);
  const at::ScalarType type = q.scalar_type();
  if (type != at::kFloat && type != at::kDouble && type != at::kBFloat16 && type != at::kHalf) {
    throw_shape("q", type, "float32, float64, bfloat16 or float16");
  }
  check_tensor(k, "k", q);
  check_tensor(v, "v", q);
  if (k.size(2) != q.size(2)) {
    throw_shape("k", k.sizes(), "head dim " + std::to_string(q.size(2)) + " of q");
  }
  if (q.size(1) % k.size(1) != 0) {
    throw_shape("k", k.sizes(),
                "a number of heads that divides the " + std::to_string(q.size(1)) + " of q");
  }
  if (v.size(0) != k.size(0) || v.size(1) != k.size(1)) {
    throw_shape("v", v.sizes(),
                "[" + std::to_string(k.size(0)) + ", " + std::to_string(k.size(1)) + ", V] as k");
  }
}

void check_arguments(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                     const at::Tensor& sinks, const Sequences& sequences,
                     const AttentionOptions& options) {
  check_tensors(q, k, v);
  if (sinks.defined()) {
    if (sinks.dim() != 1 || sinks.size(0) != q.size(1)) {
      throw_shape("sinks", sinks.sizes(), "[" + std::to_string(q.size(1)) + "], one per head of q");
    }
    if (!sinks.is_floating_point()) throw_shape("sinks", sinks.scalar_type(), "a floating dtype");
    if (sinks.device() != q.device()) {
      throw_shape("sinks", sinks.device(), q.device().str() + ", the device of q");
    }
  }
  check_sequences(sequences, q.size(0), k.size(0), kOp);
  if (!std::isfinite(options.scale)) throw_option("scale", options.scale, "a finite number");
  if (!(options.softcap >= 0) || !std::isfinite(options.softcap)) {
    throw_option("softcap", options.softcap, "0 (off) or a positive finite number");
  }
  if (options.rule.left < -1) throw_option("rule.left", options.rule.left, ">= -1");
  if (options.rule.right < -1) throw_option("rule.right", options.rule.right, ">= -1");
}

internal::AttentionForward run_forward(const AttentionArguments& arguments) {
  return select_kernel(kOp, kKernels, arguments).run.forward(arguments);
}

class AttentionFunction : public torch::autograd::Function<AttentionFunction> {
 public:
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& q,
                            const at::Tensor& k, const at::Tensor& v,
                            const std::optional<at::Tensor>& maybe_sinks,
                            const Sequences& sequences, const AttentionOptions& options) {
    const at::Tensor sinks = maybe_sinks.value_or(at::Tensor());
    auto result = run_forward({q, k, v, sinks, sequences.cu_q, sequences.cu_k, options});
    context->save_for_backward({q, k, v, sinks, result.out, result.lse});
    context->saved_data["cu_q"] = sequences.cu_q;
    context->saved_data["cu_k"] = sequences.cu_k;
    context->saved_data["left"] = options.rule.left;
    context->saved_data["right"] = options.rule.right;
    context->saved_data["scale"] = options.scale;
    context->saved_data["softcap"] = options.softcap;
    return result.out;
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 const torch::autograd::variable_list& grads) {
    const auto saved = context->get_saved_variables();
    auto& data = context->saved_data;
    const std::vector<int64_t> cu_q = data["cu_q"].toIntVector(), cu_k = data["cu_k"].toIntVector();
    AttentionOptions options;
    options.rule = {data["left"].toInt(), data["right"].toInt()};
    options.scale = data["scale"].toDouble();
    options.softcap = data["softcap"].toDouble();
    const AttentionArguments arguments{saved[0], saved[1], saved[2], saved[3], cu_q, cu_k, options};
    internal::AttentionBackwardArguments wanted;
    wanted.forward = {saved[4], saved[5]};
    wanted.d_out = grads[0].stride(2) == 1 ? grads[0] : grads[0].contiguous();
    wanted.q = context->needs_input_grad(0);
    wanted.k = context->needs_input_grad(1);
    wanted.v = context->needs_input_grad(2);
    wanted.sinks = saved[3].defined() && context->needs_input_grad(3);
    auto gradients = select_kernel(kOp, kKernels, arguments).run.backward(arguments, wanted);
    return {gradients.q, gradients.k, gradients.v, gradients.sinks, at::Tensor(), at::Tensor()};
  }
};

bool wants_gradient(const at::Tensor& tensor) { return tensor.defined() && tensor.requires_grad(); }

}  // namespace

at::Tensor attention(const at::Tensor& q_THK, const at::Tensor& k_SGK, const at::Tensor& v_SGV,
                     const at::Tensor& sinks_H, const Sequences& sequences,
                     const AttentionOptions& options) {
  check_arguments(q_THK, k_SGK, v_SGV, sinks_H, sequences, options);
  const bool records =
      at::GradMode::is_enabled() && (wants_gradient(q_THK) || wants_gradient(k_SGK) ||
                                     wants_gradient(v_SGV) || wants_gradient(sinks_H));
  if (!records) {
    return run_forward({q_THK, k_SGK, v_SGV, sinks_H, sequences.cu_q, sequences.cu_k, options}).out;
  }
  // Autograd takes no undefined tensor, only an absent one.
  const std::optional<at::Tensor> sinks =
      sinks_H.defined() ? std::optional<at::Tensor>(sinks_H) : std::nullopt;
  return AttentionFunction::apply(q_THK, k_SGK, v_SGV, sinks, sequences, options);
}

}  // namespace headway::ops
