// Argument checks, kernel table and autograd node of rope. Not for: arithmetic.
#include "headway/ops/rope.h"

#include <torch/csrc/autograd/custom_function.h>

#include "headway/ops/internal/arguments.h"
#include "headway/ops/internal/rope_kernel.h"
#include "headway/ops/kernel_table.h"
#include "headway/ops/reference/rope_reference.h"

namespace headway::ops {
namespace {

using internal::RopeArguments;
using internal::RopeKernel;
using internal::throw_shape;

constexpr char kOp[] = "rope";

constexpr RopeKernel kKernels[] = {
    {"simd", true, internal::rope_simd_supports, {internal::rope_simd}},
    {"reference", false, [](const RopeArguments&) { return Support::yes(); }, {reference::rope}},
};

[[maybe_unused]] const bool kRegistered = register_table(kOp, kKernels);

void check_table(const char* name, const at::Tensor& table, const at::Tensor& x) {
  internal::check_dims(kOp, name, table, 2, "[M,P]");
  const at::ScalarType type = internal::accumulate_type(x);
  if (table.scalar_type() != type) {
    throw_shape(kOp, name, table.scalar_type(),
                std::string(c10::toString(type)) + " for x of " + c10::toString(x.scalar_type()));
  }
  if (table.device() != x.device()) {
    throw_shape(kOp, name, table.device(), x.device().str() + ", the device of x");
  }
  if (2 * table.size(1) > x.size(2)) {
    throw_shape(kOp, name, table.sizes(),
                "[M,P] with 2P <= " + std::to_string(x.size(2)) + ", the channels of a head");
  }
}

void check_positions(const at::Tensor& positions, int64_t tokens, int64_t rows) {
  internal::check_dims(kOp, "positions", positions, 1, "[T]");
  if (positions.scalar_type() != at::kLong) {
    throw_shape(kOp, "positions", positions.scalar_type(), "int64");
  }
  if (!positions.device().is_cpu()) throw_shape(kOp, "positions", positions.device(), "cpu");
  if (positions.size(0) != tokens) {
    throw_shape(kOp, "positions", positions.sizes(),
                "[" + std::to_string(tokens) + "], one per token of x");
  }
  const int64_t* values = positions.const_data_ptr<int64_t>();
  const int64_t stride = positions.stride(0);
  for (int64_t t = 0; t < tokens; ++t) {
    const int64_t value = values[t * stride];
    if (value < 0 || value >= rows) {
      throw_shape(kOp, ("positions[" + std::to_string(t) + "]").c_str(), value,
                  "0 .. " + std::to_string(rows - 1) + ", the rows of the table");
    }
  }
}

void check_arguments(const at::Tensor& x, const at::Tensor& cos, const at::Tensor& sin,
                     const at::Tensor& positions) {
  internal::check_dims(kOp, "x", x, 3, "[T,H,K]");
  internal::check_floating(kOp, "x", x);
  if (x.size(2) > 1 && x.stride(2) != 1) {
    throw_shape(kOp, "x", x.strides(), "strides with a contiguous last dimension");
  }
  check_table("cos", cos, x);
  check_table("sin", sin, x);
  if (sin.sizes() != cos.sizes()) {
    std::ostringstream shape;
    shape << cos.sizes() << ", the shape of cos";
    throw_shape(kOp, "sin", sin.sizes(), shape.str());
  }
  check_positions(positions, x.size(0), cos.size(0));
}

at::Tensor rotate(const RopeArguments& arguments) {
  return select_kernel(kOp, kKernels, arguments).run.rotate(arguments);
}

class RopeFunction : public torch::autograd::Function<RopeFunction> {
 public:
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& x,
                            const at::Tensor& cos, const at::Tensor& sin,
                            const at::Tensor& positions, bool interleaved) {
    context->save_for_backward({cos, sin, positions});
    context->saved_data["interleaved"] = interleaved;
    return rotate({x, cos, sin, positions, interleaved, false});
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 const torch::autograd::variable_list& grads) {
    const auto saved = context->get_saved_variables();
    const bool interleaved = context->saved_data["interleaved"].toBool();
    const at::Tensor& d_y = grads[0];
    const bool rows_contiguous = d_y.size(2) <= 1 || d_y.stride(2) == 1;
    at::Tensor none;
    return {rotate({rows_contiguous ? d_y : d_y.contiguous(), saved[0], saved[1], saved[2],
                    interleaved, true}),
            none, none, none, none};
  }
};

}  // namespace

at::Tensor rope(const at::Tensor& x_THK, const at::Tensor& cos_MP, const at::Tensor& sin_MP,
                const at::Tensor& positions_T, bool interleaved) {
  check_arguments(x_THK, cos_MP, sin_MP, positions_T);
  const at::Tensor cos = cos_MP.contiguous(), sin = sin_MP.contiguous();
  const at::Tensor positions = positions_T.contiguous();
  if (!internal::records_gradient(x_THK)) {
    return rotate({x_THK, cos, sin, positions, interleaved, false});
  }
  return RopeFunction::apply(x_THK, cos, sin, positions, interleaved);
}

}  // namespace headway::ops
