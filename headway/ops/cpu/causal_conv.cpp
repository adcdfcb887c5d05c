// Causal convolution on tensors by the row kernels: threads, fixed blocks of the weight's gradient.
// Not for: arithmetic on rows (cpu/causal_conv_kernels.cpp).
#include <algorithm>
#include <optional>

#include <ATen/Functions.h>
#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>

#include "headway/ops/cpu/causal_conv_kernels.h"
#include "headway/ops/cpu/tensor_rows.h"
#include "headway/ops/internal/causal_conv_kernel.h"
#include "headway/ops/internal/tasks.h"

namespace headway::ops::internal {
namespace {

// The weight's gradient is summed in this many blocks of rows at most, whatever the threads.
constexpr int64_t kMaxBlocks = 32;
constexpr int64_t kMinBlockRows = 64;

/// The row kernels' view of the arguments, and what its pointers point into.
class ConvProblem {
 public:
  explicit ConvProblem(const CausalConvArguments& a)
      : weight_(a.inputs.weight_CW.to(at::kFloat).t().contiguous()),
        zeros_(at::zeros({a.channels()}, a.inputs.x_TC.options())) {
    for (int64_t n = 0; n < a.num_sequences(); ++n) {
      sequence_.insert(sequence_.end(), a.cu[n + 1] - a.cu[n], n);
    }
    const at::Tensor& x = a.inputs.x_TC;
    rows_.element = cpu::element_of(x);
    rows_.silu = a.activation == ConvActivation::kSilu;
    rows_.tokens = x.size(0);
    rows_.channels = x.size(1);
    rows_.taps = a.taps();
    rows_.x = x.const_data_ptr();
    rows_.x_stride = x.stride(0);
    rows_.weight = weight_.const_data_ptr<float>();
    if (a.inputs.bias_C.defined()) {
      bias_ = a.inputs.bias_C.to(at::kFloat).contiguous();
      rows_.bias = bias_.const_data_ptr<float>();
    }
    if (a.inputs.initial_state_NPC.defined()) {
      state_ = a.inputs.initial_state_NPC.contiguous();
      rows_.state = state_.const_data_ptr();
    }
    rows_.zeros = zeros_.const_data_ptr();
    rows_.sequence = sequence_.data();
    rows_.cu = a.cu.data();
  }

  const cpu::ConvRows& rows() const { return rows_; }

 private:
  at::Tensor weight_, bias_, state_, zeros_;
  std::vector<int64_t> sequence_;
  cpu::ConvRows rows_;
};

/// d_x, and the sums of every block: [blocks, W+1, C] float32, the bias's last.
at::Tensor run_blocks(const ConvProblem& problem, const at::Tensor& d_out, const at::Tensor& d_x) {
  const cpu::ConvRows& rows = problem.rows();
  const int64_t block_rows = std::max(kMinBlockRows, (rows.tokens + kMaxBlocks - 1) / kMaxBlocks);
  const int64_t blocks = (rows.tokens + block_rows - 1) / block_rows;
  at::Tensor sums = at::zeros({blocks, rows.taps + 1, rows.channels}, at::kFloat);
  const int64_t workers = num_workers();
  const at::Tensor scratch =
      at::empty({workers, block_rows + rows.taps - 1, cpu::conv_strip()}, at::kFloat);
  run_tasks(workers, blocks, [&](int64_t worker, int64_t block) {
    cpu::ConvBackwardRows b;
    b.forward = rows;
    b.d_out = d_out.const_data_ptr();
    b.d_out_stride = d_out.stride(0);
    b.d_x = d_x.data_ptr();
    b.d_weight = sums.data_ptr<float>() + block * sums.stride(0);
    b.d_bias = rows.bias == nullptr ? nullptr : b.d_weight + rows.taps * rows.channels;
    b.scratch = scratch.data_ptr<float>() + worker * scratch.stride(0);
    const int64_t begin = block * block_rows;
    cpu::conv_backward_rows(b, begin, std::min(rows.tokens, begin + block_rows));
  });
  return sums;
}

/// Gradient by the initial states, without the final states' part; [N,P,C] float32.
at::Tensor state_gradient(const ConvProblem& problem, const at::Tensor& d_out, int64_t sequences) {
  const cpu::ConvRows& rows = problem.rows();
  at::Tensor d_state = at::zeros({sequences, rows.taps - 1, rows.channels}, at::kFloat);
  cpu::ConvBackwardRows b;
  b.forward = rows;
  b.d_out = d_out.const_data_ptr();
  b.d_out_stride = d_out.stride(0);
  run_tasks(num_workers(), sequences, [&](int64_t, int64_t n) {
    cpu::conv_state_backward(b, n, d_state.data_ptr<float>() + n * d_state.stride(0));
  });
  return d_state;
}

/// Adds the gradient by the last inputs to the tokens and states they are copies of.
void add_final_state(const CausalConvArguments& a, const at::Tensor& d_final,
                     CausalConvGradients& gradients) {
  const int64_t past = a.taps() - 1;
  for (int64_t n = 0; n < a.num_sequences(); ++n) {
    const int64_t fresh = std::min(a.cu[n + 1] - a.cu[n], past), kept = past - fresh;
    if (fresh > 0) {
      gradients.x.narrow(0, a.cu[n + 1] - fresh, fresh).add_(d_final[n].narrow(0, kept, fresh));
    }
    if (kept > 0 && gradients.initial_state.defined()) {
      gradients.initial_state[n].narrow(0, fresh, kept).add_(d_final[n].narrow(0, 0, kept));
    }
  }
}

}  // namespace

Support causal_conv_simd_supports(const CausalConvArguments& arguments) {
  return cpu::supports_rows(arguments.inputs.x_TC);
}

at::Tensor causal_conv_simd_forward(const CausalConvArguments& a) {
  const TargetScope target(forced_target("causal_conv1d"));
  at::Tensor out = at::empty(a.inputs.x_TC.sizes(), a.inputs.x_TC.options());
  const ConvProblem problem(a);
  at::parallel_for(0, out.size(0), row_grain(a.channels() * a.taps()),
                   [&](int64_t begin, int64_t end) {
                     cpu::conv_forward_rows(problem.rows(), begin, end, out.data_ptr());
                   });
  return out;
}

CausalConvGradients causal_conv_simd_backward(const CausalConvArguments& a,
                                              const CausalConvCotangents& cotangents) {
  const TargetScope target(forced_target("causal_conv1d"));
  const CausalConvInputs& in = a.inputs;
  const ConvProblem problem(a);
  CausalConvGradients gradients;
  gradients.x = at::empty(in.x_TC.sizes(), in.x_TC.options());
  const at::Tensor d_out = cotangents.out.defined() ? cotangents.out : at::zeros_like(gradients.x);
  const at::Tensor sums = run_blocks(problem, d_out, gradients.x).sum(0);
  const at::ScalarType type = in.x_TC.scalar_type();
  gradients.weight = sums.narrow(0, 0, a.taps()).t().contiguous().to(type);
  if (in.bias_C.defined()) gradients.bias = sums[a.taps()].to(type);
  if (in.initial_state_NPC.defined()) {
    gradients.initial_state = state_gradient(problem, d_out, a.num_sequences()).to(type);
  }
  if (cotangents.final_state.defined()) add_final_state(a, cotangents.final_state, gradients);
  return gradients;
}

}  // namespace headway::ops::internal
