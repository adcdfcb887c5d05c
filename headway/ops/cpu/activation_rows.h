// Checked arguments of an activation as the row kernels take them.
// Not for: arithmetic (cpu/activation_kernels.cpp).
#pragma once

#include <limits>

#include "headway/base/error.h"
#include "headway/ops/cpu/activation_kernels.h"
#include "headway/ops/cpu/tensor_rows.h"
#include "headway/ops/internal/activation_kernel.h"

namespace headway::ops::internal {

inline cpu::Curve curve_of(ActivationKind kind) {
  switch (kind) {
    case ActivationKind::kSilu:
      return cpu::Curve::kSilu;
    case ActivationKind::kGeluTanh:
      return cpu::Curve::kGeluTanh;
    case ActivationKind::kRelu:
      return cpu::Curve::kRelu;
    case ActivationKind::kQuickGelu:
      return cpu::Curve::kQuickGelu;
    case ActivationKind::kGelu:
      break;
  }
  throw InternalError("[activation] kind has no vector form");
}

/// Everything but the outputs; plain activations are rows of one element.
inline cpu::ActivationRows vector_rows(const ActivationArguments& arguments) {
  constexpr float kNone = std::numeric_limits<float>::infinity();
  const auto& [limit, limit_input, offset] = arguments.options;
  const float bound = limit > 0 ? static_cast<float>(limit) : kNone;
  cpu::ActivationRows rows;
  rows.element = cpu::element_of(arguments.x);
  rows.curve = curve_of(arguments.kind);
  rows.gated = arguments.gated;
  rows.gate_limit = limit_input ? bound : kNone;
  rows.act_limit = limit_input ? kNone : bound;
  rows.up_limit = bound;
  rows.offset = static_cast<float>(offset);
  rows.width = arguments.gated ? arguments.x.size(-1) / 2 : 1;
  rows.x = arguments.x.const_data_ptr();
  return rows;
}

}  // namespace headway::ops::internal
