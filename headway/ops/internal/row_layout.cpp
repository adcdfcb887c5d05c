// Folding of leading dimensions. Not for: copies.
#include "headway/ops/internal/row_layout.h"

#include <ATen/core/Tensor.h>

namespace headway::ops::internal {

std::optional<RowLayout> row_layout(const at::Tensor& x) {
  if (x.dim() < 1 || (x.size(-1) > 1 && x.stride(-1) != 1)) return std::nullopt;
  // Groups of dimensions that one stride walks, innermost first: [0] becomes inner, [1] outer.
  int64_t sizes[2] = {1, 1}, strides[2] = {0, 0};
  int groups = 0;
  RowLayout layout;
  layout.rows = 1;
  for (int64_t dim = x.dim() - 2; dim >= 0; --dim) {
    const int64_t size = x.size(dim), stride = x.stride(dim);
    layout.rows *= size;
    if (size == 1) continue;
    if (groups > 0 && stride == sizes[groups - 1] * strides[groups - 1]) {
      sizes[groups - 1] *= size;
      continue;
    }
    if (groups == 2) return std::nullopt;
    sizes[groups] = size;
    strides[groups] = stride;
    ++groups;
  }
  if (layout.rows == 0) return RowLayout{};
  layout.inner = sizes[0];
  layout.inner_stride = strides[0];
  layout.outer_stride = strides[1];
  return layout;
}

}  // namespace headway::ops::internal
