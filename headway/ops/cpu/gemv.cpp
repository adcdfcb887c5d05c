// Threads and tensors of the few-rows kernel of linear. Not for: arithmetic (gemv_kernels.cpp).
#include <algorithm>

#include <ATen/Functions.h>
#include <ATen/Parallel.h>

#include "headway/ops/cpu/gemv_kernels.h"
#include "headway/ops/cpu/tensor_rows.h"
#include "headway/ops/internal/linear_kernel.h"

namespace headway::ops::internal {
namespace {

// With more rows the library's GEMM is as fast: it has bfloat16 products of its own.
int64_t most_tokens(at::ScalarType type) { return type == at::kFloat ? 8 : 4; }
// Outputs a thread computes start at a multiple of this, so that vectors of outputs stay together.
constexpr int64_t kOutputBlock = 4;
// Products a thread should at least get: fewer cost less than waking it.
constexpr int64_t kGrain = 1 << 15;

}  // namespace

Support gemv_supports(const LinearArguments& arguments) {
  const Support rows = cpu::supports_rows(arguments.x);
  if (!rows.ok()) return rows;
  const int64_t most = most_tokens(arguments.x.scalar_type());
  if (arguments.x.size(0) > most) {
    return Support::no("it takes at most " + std::to_string(most) + " rows of this dtype");
  }
  if (arguments.weight.stride(1) != 1 && arguments.weight.size(1) > 1) {
    return Support::no("it takes a weight with contiguous rows only");
  }
  return Support::yes();
}

at::Tensor gemv_forward(const LinearArguments& arguments) {
  const TargetScope scope(forced_target("linear"));
  const at::Tensor x = arguments.x.to(at::kFloat).contiguous();
  const at::Tensor bias =
      arguments.bias.defined() ? arguments.bias.to(at::kFloat).contiguous() : at::Tensor();
  const int64_t outputs = arguments.weight.size(0);
  at::Tensor y = at::empty({x.size(0), outputs}, arguments.x.options());
  const cpu::Gemv gemv{cpu::element_of(arguments.x),
                       x.size(0),
                       x.size(1),
                       x.const_data_ptr<float>(),
                       arguments.weight.const_data_ptr(),
                       arguments.weight.stride(0),
                       bias.defined() ? bias.const_data_ptr<float>() : nullptr,
                       y.data_ptr(),
                       outputs};
  const int64_t blocks = (outputs + kOutputBlock - 1) / kOutputBlock;
  const int64_t work = std::max<int64_t>(1, kOutputBlock * x.size(0) * x.size(1));
  at::parallel_for(0, blocks, std::max<int64_t>(1, kGrain / work), [&](int64_t begin, int64_t end) {
    cpu::gemv_outputs(gemv, begin * kOutputBlock, std::min(outputs, end * kOutputBlock));
  });
  return y;
}

}  // namespace headway::ops::internal
