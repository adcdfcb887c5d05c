// Argument checks, kernel table and autograd node of sparse attention. Not for: arithmetic.
#include "headway/ops/sparse_attention.h"

#include <string>

#include <ATen/Functions.h>
#include <torch/csrc/autograd/custom_function.h>

#include "headway/ops/internal/arguments.h"
#include "headway/ops/internal/sparse_attention_kernel.h"
#include "headway/ops/reference/sparse_attention_reference.h"

namespace headway::ops {
namespace {

using internal::SparseAttentionArguments;
using internal::SparseAttentionKernel;
using internal::throw_shape;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

constexpr char kOp[] = "sparse_attention";

constexpr SparseAttentionKernel kKernels[] = {
    {"cpu",
     false,
     internal::sparse_attention_cpu_supports,
     {internal::sparse_attention_cpu_forward, internal::sparse_attention_cpu_backward}},
    {"reference",
     false,
     [](const SparseAttentionArguments&) { return Support::yes(); },
     {reference::sparse_attention_forward, reference::sparse_attention_backward}},
};

[[maybe_unused]] const bool kRegistered = register_table(kOp, kKernels);

void check_arguments(const at::Tensor& q, const at::Tensor& kv, const at::Tensor& chosen,
                     int64_t value_dim) {
  internal::check_dims(kOp, "q", q, 3, "[T,H,K]");
  internal::check_floating(kOp, "q", q);
  internal::check_dims(kOp, "kv", kv, 2, "[S,K]");
  internal::check_like(kOp, "kv", kv, "q", q);
  if (q.size(2) < 1 || kv.size(1) != q.size(2)) {
    throw_shape(kOp, "kv", kv.sizes(),
                "[S," + std::to_string(q.size(2)) + "], the channels of q, at least 1");
  }
  if (value_dim < 1 || value_dim > q.size(2)) {
    throw_shape(kOp, "value_dim", value_dim, "1 to the channels of q");
  }
  internal::check_dims(kOp, "chosen", chosen, 2, "[T,J]");
  if (chosen.size(0) != q.size(0) || chosen.scalar_type() != at::kLong ||
      !chosen.device().is_cpu()) {
    throw_shape(kOp, "chosen", chosen.sizes(),
                "int64 [" + std::to_string(q.size(0)) + ",J] on the CPU");
  }
  if (chosen.numel() == 0) return;
  const int64_t low = chosen.min().item<int64_t>(), high = chosen.max().item<int64_t>();
  if (low < -1 || high >= kv.size(0)) {
    throw_shape(kOp, "chosen", low < -1 ? low : high,
                "-1 to " + std::to_string(kv.size(0) - 1) + ", rows of kv");
  }
}

SparseAttentionArguments arguments_of(const at::Tensor& q, const at::Tensor& kv,
                                      const at::Tensor& chosen, int64_t value_dim, double scale) {
  const at::ScalarType wide = internal::accumulate_type(q);
  return {q.to(wide).contiguous(), kv.to(wide).contiguous(), chosen.contiguous(), value_dim, scale};
}

class SparseAttentionFunction : public torch::autograd::Function<SparseAttentionFunction> {
 public:
  static at::Tensor forward(AutogradContext* context, const at::Tensor& q, const at::Tensor& kv,
                            const at::Tensor& chosen, int64_t value_dim, double scale) {
    const auto arguments = arguments_of(q, kv, chosen, value_dim, scale);
    const at::Tensor out = select_kernel(kOp, kKernels, arguments).run.forward(arguments);
    context->save_for_backward({q, kv, chosen, out});
    context->saved_data["value_dim"] = value_dim;
    context->saved_data["scale"] = scale;
    return out.to(q.scalar_type());
  }

  static variable_list backward(AutogradContext* context, const variable_list& grads) {
    const auto saved = context->get_saved_variables();
    const auto arguments =
        arguments_of(saved[0], saved[1], saved[2], context->saved_data["value_dim"].toInt(),
                     context->saved_data["scale"].toDouble());
    const at::Tensor d_out = grads[0].to(arguments.q.scalar_type()).contiguous();
    const auto gradients =
        select_kernel(kOp, kKernels, arguments).run.backward(arguments, saved[3], d_out);
    const at::Tensor none;
    return {gradients.q.to(saved[0].scalar_type()), gradients.kv.to(saved[1].scalar_type()), none,
            none, none};
  }
};

}  // namespace

at::Tensor sparse_attention(const at::Tensor& q_THK, const at::Tensor& kv_SK,
                            const at::Tensor& chosen_TJ, int64_t value_dim, double scale) {
  check_arguments(q_THK, kv_SK, chosen_TJ, value_dim);
  if (internal::records_gradient(q_THK, kv_SK)) {
    return SparseAttentionFunction::apply(q_THK, kv_SK, chosen_TJ, value_dim, scale);
  }
  const auto arguments = arguments_of(q_THK, kv_SK, chosen_TJ, value_dim, scale);
  return select_kernel(kOp, kKernels, arguments).run.forward(arguments).to(q_THK.scalar_type());
}

}  // namespace headway::ops
