// Bridges from tensors to the row kernels. Not for: the kernels themselves, which see no tensor.
#pragma once

#include <ATen/Functions.h>
#include <ATen/core/Tensor.h>

#include "headway/base/error.h"
#include "headway/ops/cpu/element.h"
#include "headway/ops/internal/row_layout.h"
#include "headway/ops/kernel_table.h"

namespace headway::ops::cpu {

inline Element element_of(const at::Tensor& x) {
  return x.scalar_type() == at::kFloat ? Element::kFloat : Element::kBFloat16;
}

/// The condition shared by all row kernels.
inline Support supports_rows(const at::Tensor& x) {
  if (!x.device().is_cpu()) return Support::no("it runs on the CPU only");
  if (x.scalar_type() != at::kFloat && x.scalar_type() != at::kBFloat16) {
    return Support::no("it takes float32 and bfloat16 only");
  }
  return Support::yes();
}

/// A tensor whose rows a kernel can walk: `x` itself, or a contiguous copy; `held` keeps it alive.
struct TensorRows {
  explicit TensorRows(const at::Tensor& x) : held(x) {
    auto found = internal::row_layout(held);
    if (!found) {
      held = held.contiguous();
      found = internal::row_layout(held);
    }
    layout = *found;
  }
  const void* data() const { return held.const_data_ptr(); }

  at::Tensor held;
  internal::RowLayout layout;
};

/// Contiguous tensor of x's shape and dtype, for a kernel to fill.
inline at::Tensor empty_rows(const at::Tensor& x) { return at::empty(x.sizes(), x.options()); }

}  // namespace headway::ops::cpu
