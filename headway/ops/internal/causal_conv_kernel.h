// What every kernel of the causal convolution takes and returns: the row type of the table in
// causal_conv.cpp. Not for: callers of the op (use headway/ops/causal_conv.h).
// Legend: T tokens, N sequences, C channels, W taps, P = W-1 remembered inputs.
#pragma once

#include <cstdint>
#include <vector>

#include <ATen/core/Tensor.h>

#include "headway/ops/causal_conv.h"
#include "headway/ops/kernel_table.h"

namespace headway::ops::internal {

/// Checked arguments. Boundaries are borrowed for the length of a call.
struct CausalConvArguments {
  CausalConvInputs inputs;
  const std::vector<int64_t>& cu;
  ConvActivation activation;

  int64_t taps() const { return inputs.weight_CW.size(1); }
  int64_t channels() const { return inputs.x_TC.size(1); }
  int64_t num_sequences() const { return static_cast<int64_t>(cu.size()) - 1; }
};

struct CausalConvGradients {
  at::Tensor x, weight, bias, initial_state;  // undefined where the input is
};

/// Either may be undefined.
struct CausalConvCotangents {
  at::Tensor out;          // [T,C], last dim contiguous
  at::Tensor final_state;  // [N,P,C]
};

struct CausalConvFunctions {
  at::Tensor (*forward)(const CausalConvArguments&) = nullptr;
  CausalConvGradients (*backward)(const CausalConvArguments&,
                                  const CausalConvCotangents&) = nullptr;
};

using CausalConvKernel = Kernel<CausalConvArguments, CausalConvFunctions>;

/// Rows by Highway: float32 and bfloat16 on the CPU.
Support causal_conv_simd_supports(const CausalConvArguments& arguments);
at::Tensor causal_conv_simd_forward(const CausalConvArguments& arguments);
CausalConvGradients causal_conv_simd_backward(const CausalConvArguments& arguments,
                                              const CausalConvCotangents& cotangents);

}  // namespace headway::ops::internal
