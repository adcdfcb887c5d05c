// Argument checks, kernel table and autograd node of attention. Not for: arithmetic.
#include "headway/ops/attention.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <optional>
#include <sstream>

#include <ATen/core/grad_mode.h>
#include <torch/csrc/autograd/custom_function.h>

#include "headway/base/error.h"
#include "headway/ops/cpu/attention_cpu.h"
#include "headway/ops/internal/attention_kernel.h"
#include "headway/ops/internal/dropout.h"
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

int64_t longest(const std::vector<int64_t>& cu) {
  int64_t length = 0;
  for (size_t n = 0; n + 1 < cu.size(); ++n) length = std::max(length, cu[n + 1] - cu[n]);
  return length;
}

/// `x` broadcasts to [N,H,max sq,max sk].
void check_pairs(const char* name, const at::Tensor& x, const at::Tensor& q,
                 const Sequences& sequences) {
  const std::array<int64_t, 4> full{sequences.num_sequences(), q.size(1), longest(sequences.cu_q),
                                    longest(sequences.cu_k)};
  bool fits = x.dim() == 4;
  for (int64_t d = 0; fits && d < 4; ++d) fits = x.size(d) == 1 || x.size(d) == full[d];
  if (!fits) {
    std::ostringstream shape;
    shape << at::IntArrayRef(full) << " or 1 in any dimension: sequences, heads, queries, keys";
    throw_shape(name, x.sizes(), shape.str());
  }
  if (x.device() != q.device()) throw_shape(name, x.device(), q.device().str());
}

void check_options(const at::Tensor& q, const Sequences& sequences,
                   const AttentionOptions& options) {
  if (!std::isfinite(options.scale)) throw_option("scale", options.scale, "a finite number");
  if (!(options.softcap >= 0) || !std::isfinite(options.softcap)) {
    throw_option("softcap", options.softcap, "0 (off) or a positive finite number");
  }
  if (options.rule.left < -1) throw_option("rule.left", options.rule.left, ">= -1");
  if (options.rule.right < -1) throw_option("rule.right", options.rule.right, ">= -1");
  const double dropped = options.dropout.probability;
  if (!(dropped >= 0 && dropped < 1)) {
    throw_option("dropout.probability", dropped, "a number in [0, 1)");
  }
  if (options.mask.defined()) {
    if (options.mask.scalar_type() != at::kBool) {
      throw_shape("options.mask", options.mask.scalar_type(), "Bool, true = hidden");
    }
    check_pairs("options.mask", options.mask, q, sequences);
  }
  if (options.bias.defined()) {
    if (!options.bias.is_floating_point()) {
      throw_shape("options.bias", options.bias.scalar_type(), "a floating dtype");
    }
    check_pairs("options.bias", options.bias, q, sequences);
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
  check_options(q, sequences, options);
}

internal::AttentionForward run_forward(const AttentionArguments& arguments) {
  return select_kernel(kOp, kKernels, arguments).run.forward(arguments);
}

class AttentionFunction : public torch::autograd::Function<AttentionFunction> {
 public:
  /// `options` without its tensors, which autograd must see.
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& q,
                            const at::Tensor& k, const at::Tensor& v,
                            const std::optional<at::Tensor>& maybe_sinks,
                            const std::optional<at::Tensor>& maybe_bias,
                            const std::optional<at::Tensor>& maybe_mask, const Sequences& sequences,
                            AttentionOptions options) {
    const at::Tensor sinks = maybe_sinks.value_or(at::Tensor());
    options.bias = maybe_bias.value_or(at::Tensor());
    options.mask = maybe_mask.value_or(at::Tensor());
    auto result = run_forward({q, k, v, sinks, sequences.cu_q, sequences.cu_k, options});
    context->save_for_backward(
        {q, k, v, sinks, options.bias, options.mask, result.out, result.lse});
    auto& data = context->saved_data;
    data["cu_q"] = sequences.cu_q;
    data["cu_k"] = sequences.cu_k;
    data["left"] = options.rule.left;
    data["right"] = options.rule.right;
    data["scale"] = options.scale;
    data["softcap"] = options.softcap;
    data["dropout"] = options.dropout.probability;
    data["key"] = static_cast<int64_t>(options.dropout.key);
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
    options.dropout = {data["dropout"].toDouble(), static_cast<uint64_t>(data["key"].toInt())};
    options.bias = saved[4];
    options.mask = saved[5];
    const AttentionArguments arguments{saved[0], saved[1], saved[2], saved[3], cu_q, cu_k, options};
    internal::AttentionBackwardArguments wanted;
    wanted.forward = {saved[6], saved[7]};
    wanted.d_out = grads[0].stride(2) == 1 ? grads[0] : grads[0].contiguous();
    wanted.q = context->needs_input_grad(0);
    wanted.k = context->needs_input_grad(1);
    wanted.v = context->needs_input_grad(2);
    size_t edge = 3;  // absent tensors have none
    wanted.sinks = saved[3].defined() && context->needs_input_grad(edge++);
    wanted.bias = saved[4].defined() && context->needs_input_grad(edge);
    const auto gradients = select_kernel(kOp, kKernels, arguments).run.backward(arguments, wanted);
    const at::Tensor none;
    return {gradients.q,    gradients.k, gradients.v, gradients.sinks,
            gradients.bias, none,        none,        none};
  }
};

bool wants_gradient(const at::Tensor& tensor) { return tensor.defined() && tensor.requires_grad(); }

/// Autograd takes no undefined tensor, only an absent one.
std::optional<at::Tensor> if_defined(const at::Tensor& tensor) {
  return tensor.defined() ? std::optional<at::Tensor>(tensor) : std::nullopt;
}

}  // namespace

uint64_t dropout_key(uint64_t seed, uint64_t step, uint64_t micro_batch, uint64_t layer) {
  using internal::mix64;
  return mix64(mix64(mix64(mix64(seed) + step) + micro_batch) + layer);
}

at::Tensor attention(const at::Tensor& q_THK, const at::Tensor& k_SGK, const at::Tensor& v_SGV,
                     const at::Tensor& sinks_H, const Sequences& sequences,
                     const AttentionOptions& options) {
  check_arguments(q_THK, k_SGK, v_SGV, sinks_H, sequences, options);
  const bool records = at::GradMode::is_enabled() &&
                       (wants_gradient(q_THK) || wants_gradient(k_SGK) || wants_gradient(v_SGV) ||
                        wants_gradient(sinks_H) || wants_gradient(options.bias));
  if (!records) {
    return run_forward({q_THK, k_SGK, v_SGV, sinks_H, sequences.cu_q, sequences.cu_k, options}).out;
  }
  AttentionOptions plain = options;
  plain.bias = plain.mask = at::Tensor();
  return AttentionFunction::apply(q_THK, k_SGK, v_SGV, if_defined(sinks_H),
                                  if_defined(options.bias), if_defined(options.mask), sequences,
                                  plain);
}

}  // namespace headway::ops
