// What one forward pass reads: samples laid end to end, no padding.
// Not for: attention rules; ops::packed_sequences(cu_seqlens) makes their input.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include <ATen/core/Tensor.h>

#include "headway/data/packing.h"

namespace headway::data {

/// T tokens in N sequences. Both tensors are int64 [T] on the CPU.
struct Batch {
  at::Tensor input_ids;
  at::Tensor labels;  // already shifted: labels[t] follows input_ids[t], or -100
  /// N + 1 boundaries from 0 to T; positions restart at each.
  std::vector<std::int64_t> cu_seqlens{0};
  std::int64_t max_len = 0;      // of the longest sequence
  std::int64_t label_count = 0;  // labels that are not -100; may be 0

  std::int64_t num_tokens() const { return cu_seqlens.back(); }
};

/// The given samples in the given order.
/// Errors: those of PackedSamples::read; InternalError for no samples.
Batch make_batch(const PackedSamples& samples, std::span<const std::int64_t> indices);

/// Samples [first, first + count), cut at the end: evaluation in stream order.
Batch make_sequential_batch(const PackedSamples& samples, std::int64_t first, std::int64_t count);

}  // namespace headway::data
