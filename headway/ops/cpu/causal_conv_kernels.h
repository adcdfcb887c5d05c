// Rows of the causal convolution on raw pointers. Not for: threads or tensors (causal_conv.cpp).
// Legend: T tokens, N sequences, C channels, W taps, P = W-1 remembered inputs.
#pragma once

#include <cstdint>

#include "headway/ops/cpu/element.h"

namespace headway::ops::cpu {

struct ConvRows {
  Element element = Element::kFloat;
  bool silu = true;
  int64_t tokens = 0, channels = 0, taps = 1;
  const void* x = nullptr;  // [T,C], rows `x_stride` elements apart
  int64_t x_stride = 0;
  const float* weight = nullptr;      // [W,C]
  const float* bias = nullptr;        // [C] or null
  const void* state = nullptr;        // [N,P,C] like x, or null
  const void* zeros = nullptr;        // [C] like x
  const int64_t* sequence = nullptr;  // [T]: which sequence a token is of
  const int64_t* cu = nullptr;        // [N+1]
};

/// out [T,C] like x, rows [begin, end).
void conv_forward_rows(const ConvRows& rows, int64_t begin, int64_t end, void* out);

struct ConvBackwardRows {
  ConvRows forward;
  const void* d_out = nullptr;  // like x, rows `d_out_stride` apart
  int64_t d_out_stride = 0;
  void* d_x = nullptr;        // [T,C] contiguous, like x
  float* d_weight = nullptr;  // [W,C]: sums of the rows [begin, end)
  float* d_bias = nullptr;    // [C] or null
  float* scratch = nullptr;   // [end - begin + P, conv_strip()]
};
/// Channels worked on at a time.
int64_t conv_strip();
void conv_backward_rows(const ConvBackwardRows& rows, int64_t begin, int64_t end);

/// Gradient by the inputs before each sequence: d_state [P,C] float32 of sequence n.
void conv_state_backward(const ConvBackwardRows& rows, int64_t n, float* d_state);

}  // namespace headway::ops::cpu
