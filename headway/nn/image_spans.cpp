// See image_spans.h. Not for: attention.
#include "headway/nn/image_spans.h"

#include <algorithm>
#include <string>

#include <ATen/Functions.h>

#include "headway/base/error.h"

namespace headway::nn {

at::Tensor image_spans(const at::Tensor& types_T, const ops::Sequences& sequences) {
  const int64_t tokens = sequences.num_tokens();
  if (types_T.dim() != 1 || types_T.size(0) != tokens || types_T.scalar_type() != at::kLong) {
    throw ShapeError("[nn::image_spans] types has " + std::to_string(types_T.numel()) +
                     " elements, allowed int64 [" + std::to_string(tokens) + "], one a token");
  }
  const at::Tensor types = types_T.to(at::kCPU).contiguous();
  const int64_t* type = types.const_data_ptr<int64_t>();
  at::Tensor spans = at::zeros({tokens}, at::kLong);
  int64_t* span = spans.data_ptr<int64_t>();
  int64_t count = 0;
  for (int64_t n = 0; n < sequences.num_sequences(); ++n) {
    for (int64_t t = sequences.cu_q[n]; t < sequences.cu_q[n + 1]; ++t) {
      if (type[t] != 1 && type[t] != 2) continue;
      const bool goes_on = t > sequences.cu_q[n] && span[t - 1] > 0;
      span[t] = goes_on ? count : ++count;
    }
  }
  return spans;
}

at::Tensor span_mask(const at::Tensor& spans_T, const ops::Sequences& sequences) {
  int64_t queries = 0, keys = 0;
  for (int64_t n = 0; n < sequences.num_sequences(); ++n) {
    queries = std::max(queries, sequences.cu_q[n + 1] - sequences.cu_q[n]);
    keys = std::max(keys, sequences.cu_k[n + 1] - sequences.cu_k[n]);
  }
  at::Tensor mask = at::ones({sequences.num_sequences(), 1, queries, keys}, at::kBool);
  const int64_t* span = spans_T.const_data_ptr<int64_t>();
  bool* hidden = mask.data_ptr<bool>();
  for (int64_t n = 0; n < sequences.num_sequences(); ++n) {
    const int64_t first = sequences.cu_q[n], count = sequences.cu_q[n + 1] - first;
    const int64_t past = sequences.cu_k[n + 1] - sequences.cu_k[n] - count;
    for (int64_t i = 0; i < count; ++i) {
      bool* row = hidden + (n * queries + i) * keys;
      std::fill(row, row + past + i + 1, false);
      const int64_t own = span[first + i];
      for (int64_t j = i + 1; own > 0 && j < count && span[first + j] == own; ++j) {
        row[past + j] = false;
      }
    }
  }
  return mask;
}

}  // namespace headway::nn
