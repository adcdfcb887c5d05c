// Argument checks, kernel table and autograd node of the embedding. Not for: arithmetic.
#include "headway/ops/embedding.h"

#include <ATen/Functions.h>
#include <torch/csrc/autograd/custom_function.h>

#include "headway/ops/internal/arguments.h"
#include "headway/ops/internal/embedding_kernel.h"
#include "headway/ops/kernel_table.h"
#include "headway/ops/reference/embedding_reference.h"

namespace headway::ops {
namespace {

using internal::EmbeddingArguments;
using internal::EmbeddingKernel;

constexpr char kOp[] = "embedding";

constexpr EmbeddingKernel kKernels[] = {
    {"cpu",
     false,
     internal::embedding_cpu_supports,
     {internal::embedding_cpu_forward, internal::embedding_cpu_backward}},
    {"reference",
     false,
     [](const EmbeddingArguments&) { return Support::yes(); },
     {reference::embedding_forward, reference::embedding_backward}},
};

[[maybe_unused]] const bool kRegistered = register_table(kOp, kKernels);

void check_ids(const at::Tensor& ids, int64_t rows) {
  if (ids.numel() == 0) return;
  if (ids.device().is_cpu()) {
    const at::Tensor flat = ids.contiguous();
    const int64_t* values = flat.const_data_ptr<int64_t>();
    for (int64_t t = 0; t < flat.numel(); ++t) {
      if (values[t] < 0 || values[t] >= rows) {
        internal::throw_shape(kOp, ("ids[" + std::to_string(t) + "]").c_str(), values[t],
                              "0 .. " + std::to_string(rows - 1) + ", the rows of the table");
      }
    }
    return;
  }
  const int64_t low = ids.min().item<int64_t>(), high = ids.max().item<int64_t>();
  if (low < 0 || high >= rows) {
    internal::throw_shape(kOp, "ids", low < 0 ? low : high,
                          "0 .. " + std::to_string(rows - 1) + ", the rows of the table");
  }
}

void check_arguments(const at::Tensor& ids, const at::Tensor& table, int64_t padding_id) {
  internal::check_dims(kOp, "ids", ids, 1, "[T]");
  if (ids.scalar_type() != at::kLong) {
    internal::throw_shape(kOp, "ids", ids.scalar_type(), "int64");
  }
  internal::check_dims(kOp, "table", table, 2, "[V,D]");
  internal::check_floating(kOp, "table", table);
  if (ids.device() != table.device()) {
    internal::throw_shape(kOp, "ids", ids.device(), table.device().str() + ", the table's device");
  }
  if (padding_id < -1 || padding_id >= table.size(0)) {
    internal::throw_shape(kOp, "padding_id", padding_id,
                          "-1 (off) .. " + std::to_string(table.size(0) - 1));
  }
  check_ids(ids, table.size(0));
}

at::Tensor run_forward(const at::Tensor& ids, const at::Tensor& table, double scale,
                       int64_t padding_id) {
  const EmbeddingArguments arguments{ids, table.size(0), scale, padding_id, table.device()};
  return select_kernel(kOp, kKernels, arguments).run.forward(arguments, table);
}

class EmbeddingFunction : public torch::autograd::Function<EmbeddingFunction> {
 public:
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& ids,
                            const at::Tensor& table, double scale, int64_t padding_id) {
    context->save_for_backward({ids});
    context->saved_data["rows"] = table.size(0);
    context->saved_data["scale"] = scale;
    context->saved_data["padding_id"] = padding_id;
    return run_forward(ids, table, scale, padding_id);
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 const torch::autograd::variable_list& grads) {
    auto& data = context->saved_data;
    const EmbeddingArguments arguments{context->get_saved_variables()[0], data["rows"].toInt(),
                                       data["scale"].toDouble(), data["padding_id"].toInt(),
                                       grads[0].device()};
    const auto& kernel = select_kernel(kOp, kKernels, arguments);
    return {at::Tensor(), kernel.run.backward(arguments, grads[0]), at::Tensor(), at::Tensor()};
  }
};

class RowSparseEmbeddingFunction : public torch::autograd::Function<RowSparseEmbeddingFunction> {
 public:
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& ids,
                            const at::Tensor& table, double scale, int64_t padding_id) {
    context->save_for_backward({ids});
    context->saved_data["rows"] = table.size(0);
    context->saved_data["scale"] = scale;
    context->saved_data["padding_id"] = padding_id;
    return run_forward(ids, table, scale, padding_id);
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 const torch::autograd::variable_list& grads) {
    auto& data = context->saved_data;
    at::Tensor ids = context->get_saved_variables()[0];
    at::Tensor d_out = grads[0];
    if (const int64_t padding = data["padding_id"].toInt(); padding >= 0) {
      const at::Tensor kept = ids.ne(padding).nonzero().flatten();
      ids = ids.index_select(0, kept);
      d_out = d_out.index_select(0, kept);
    }
    // The dense backward on a table of the named rows alone: same sums, in token order.
    const auto [rows, places] = at::_unique(ids, /*sorted=*/true, /*return_inverse=*/true);
    const EmbeddingArguments arguments{places, rows.size(0), data["scale"].toDouble(), -1,
                                       d_out.device()};
    const at::Tensor values =
        select_kernel(kOp, kKernels, arguments).run.backward(arguments, d_out);
    const at::Tensor gradient = at::_sparse_coo_tensor_unsafe(
        rows.unsqueeze(0), values, {data["rows"].toInt(), d_out.size(1)},
        values.options().layout(at::kSparse), /*is_coalesced=*/true);
    return {at::Tensor(), gradient, at::Tensor(), at::Tensor()};
  }
};

}  // namespace

at::Tensor embedding(const at::Tensor& ids_T, const at::Tensor& table_VD, double scale,
                     int64_t padding_id) {
  check_arguments(ids_T, table_VD, padding_id);
  if (internal::records_gradient(table_VD)) {
    return EmbeddingFunction::apply(ids_T, table_VD, scale, padding_id);
  }
  return run_forward(ids_T, table_VD, scale, padding_id);
}

at::Tensor row_sparse_embedding(const at::Tensor& ids_T, const at::Tensor& table_VD, double scale,
                                int64_t padding_id) {
  check_arguments(ids_T, table_VD, padding_id);
  if (internal::records_gradient(table_VD)) {
    return RowSparseEmbeddingFunction::apply(ids_T, table_VD, scale, padding_id);
  }
  return run_forward(ids_T, table_VD, scale, padding_id);
}

}  // namespace headway::ops
