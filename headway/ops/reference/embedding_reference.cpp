// Embedding as its formula reads. Not for: speed.
#include "headway/ops/reference/embedding_reference.h"

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>

#include "headway/ops/internal/arguments.h"

namespace headway::ops::reference {

at::Tensor embedding_forward(const internal::EmbeddingArguments& arguments,
                             const at::Tensor& table_VD) {
  const at::Tensor rows = table_VD.index_select(0, arguments.ids);
  return (rows.to(internal::accumulate_type(table_VD)) * arguments.scale)
      .to(table_VD.scalar_type());
}

at::Tensor embedding_backward(const internal::EmbeddingArguments& arguments,
                              const at::Tensor& d_out_TD) {
  const at::Tensor d_rows = d_out_TD.to(internal::accumulate_type(d_out_TD)) * arguments.scale;
  return at::embedding_dense_backward(d_rows, arguments.ids, arguments.rows, arguments.padding_id,
                                      /*scale_grad_by_freq=*/false)
      .to(d_out_TD.scalar_type());
}

}  // namespace headway::ops::reference
