// Argument checks and the "is autograd recording" question, shared by the ops.
// Not for: callers of the ops.
#pragma once

#include <sstream>
#include <string>

#include <ATen/core/Tensor.h>
#include <ATen/core/grad_mode.h>

#include "headway/base/error.h"

namespace headway::ops::internal {

template <class Got>
[[noreturn]] void throw_shape(const char* op, const char* argument, const Got& got,
                              const std::string& allowed) {
  std::ostringstream text;
  text << "[" << op << "] " << argument << " = " << got << ", allowed " << allowed;
  throw ShapeError(text.str());
}

/// A defined tensor of `dims` dimensions; `layout` names them in the message ("[T,D]").
inline void check_dims(const char* op, const char* argument, const at::Tensor& x, int64_t dims,
                       const char* layout) {
  if (!x.defined()) throw_shape(op, argument, "undefined", std::string("a tensor ") + layout);
  if (x.dim() != dims) throw_shape(op, argument, x.sizes(), layout);
}

inline void check_floating(const char* op, const char* argument, const at::Tensor& x) {
  const at::ScalarType type = x.scalar_type();
  if (type != at::kFloat && type != at::kDouble && type != at::kBFloat16 && type != at::kHalf) {
    throw_shape(op, argument, type, "float32, float64, bfloat16 or float16");
  }
}

/// Same dtype and device as `other`, which the message calls `other_name`.
inline void check_like(const char* op, const char* argument, const at::Tensor& x,
                       const char* other_name, const at::Tensor& other) {
  if (x.scalar_type() != other.scalar_type()) {
    throw_shape(op, argument, x.scalar_type(),
                std::string(c10::toString(other.scalar_type())) + ", the dtype of " + other_name);
  }
  if (x.device() != other.device()) {
    throw_shape(op, argument, x.device(), other.device().str() + ", the device of " + other_name);
  }
}

/// True when gradients are on and one of the (possibly undefined) tensors requires one.
template <class... Tensors>
bool records_gradient(const Tensors&... tensors) {
  return at::GradMode::is_enabled() && ((tensors.defined() && tensors.requires_grad()) || ...);
}

/// Statistics and sums of 16-bit inputs are kept in float32, of float64 in float64.
inline at::ScalarType accumulate_type(const at::Tensor& x) {
  return x.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
}

}  // namespace headway::ops::internal
