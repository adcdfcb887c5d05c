// What both CPU forms of the experts op share: activations of a block of rows, gathered rows, the
// final sum. Not for: callers outside cpu/experts*.cpp.
// Legend: as in internal/experts_kernel.h.
#pragma once

#include <algorithm>
#include <cstring>

#include <ATen/Functions.h>
#include <ATen/Parallel.h>

#include "headway/base/error.h"
#include "headway/ops/cpu/activation_rows.h"
#include "headway/ops/cpu/expert_rows.h"
#include "headway/ops/internal/experts_kernel.h"
#include "headway/ops/reference/activation_reference.h"

namespace headway::ops::internal {

inline ActivationArguments expert_activation(const ExpertOptions& o, const at::Tensor& up) {
  return {up, o.activation, o.gated, o.gated_options()};
}

inline int64_t activation_count(const ExpertOptions& o, const at::Tensor& up) {
  return o.gated ? up.size(0) : up.numel();
}

/// h [n,F] of up [n,R], both contiguous.
inline void expert_activate(const ExpertOptions& o, const at::Tensor& up, at::Tensor& h) {
  if (o.activation == ActivationKind::kGelu) {
    h.copy_(reference::activation_forward(expert_activation(o, up)));
    return;
  }
  cpu::ActivationRows rows = vector_rows(expert_activation(o, up));
  rows.y = h.data_ptr();
  cpu::activation_rows(rows, 0, activation_count(o, up));
}

/// d_up [n,R] of up and d_h [n,F], all contiguous.
inline void expert_deactivate(const ExpertOptions& o, const at::Tensor& up, const at::Tensor& d_h,
                              at::Tensor& d_up) {
  if (o.activation == ActivationKind::kGelu) {
    d_up.copy_(reference::activation_backward(expert_activation(o, up), d_h));
    return;
  }
  cpu::ActivationRows rows = vector_rows(expert_activation(o, up));
  rows.d_y = d_h.const_data_ptr();
  rows.d_x = d_up.data_ptr();
  cpu::activation_rows(rows, 0, activation_count(o, up));
}

/// Rows of `from` [T,C] of the tokens of sorted rows [begin, begin + to.size(0)).
inline void gather_tokens(const ExpertOrder& order, int64_t begin, const at::Tensor& from,
                          at::Tensor& to) {
  const size_t bytes = static_cast<size_t>(from.size(1)) * from.element_size();
  const auto* source = static_cast<const char*>(from.const_data_ptr());
  auto* target = static_cast<char*>(to.data_ptr());
  for (int64_t i = 0; i < to.size(0); ++i) {
    std::memcpy(target + static_cast<size_t>(i) * bytes,
                source + static_cast<size_t>(order.token(begin + i)) * bytes, bytes);
  }
}

/// out [T,C] of sorted rows [N,C].
inline void combine_tokens(const ExpertOrder& order, const at::Tensor& rows, at::Tensor& out) {
  const cpu::CombineRows combine{cpu::element_of(rows), rows.const_data_ptr(), order.places.data(),
                                 order.top_k,           rows.size(1),          out.data_ptr()};
  at::parallel_for(
      0, out.size(0), row_grain(order.top_k * rows.size(1)),
      [&](int64_t begin, int64_t end) { cpu::combine_expert_rows(combine, begin, end); });
}

}  // namespace headway::ops::internal
