// Fills the tensors of a batch.
// Not for: moving them to a device.
#include "headway/data/batch.h"

#include <algorithm>
#include <numeric>

#include <ATen/Functions.h>

#include "headway/base/error.h"

namespace headway::data {

Batch make_batch(const PackedSamples& samples, std::span<const std::int64_t> indices) {
  if (indices.empty()) throw InternalError("[batch] samples = none, allowed at least 1");
  std::int64_t tokens = 0;
  for (const std::int64_t index : indices) tokens += samples.length(index);

  Batch batch;
  batch.input_ids = at::empty({tokens}, at::kLong);
  batch.labels = at::empty({tokens}, at::kLong);
  auto* input_ids = batch.input_ids.data_ptr<std::int64_t>();
  auto* labels = batch.labels.data_ptr<std::int64_t>();
  std::vector<std::int64_t> lengths;
  for (const std::int64_t index : indices) {
    const auto count = static_cast<std::size_t>(samples.length(index));
    batch.label_count += samples.read(index, {input_ids, count}, {labels, count}, lengths);
    input_ids += count;
    labels += count;
  }
  for (const std::int64_t length : lengths) {
    batch.cu_seqlens.push_back(batch.cu_seqlens.back() + length);
    batch.max_len = std::max(batch.max_len, length);
  }
  return batch;
}

Batch make_sequential_batch(const PackedSamples& samples, std::int64_t first, std::int64_t count) {
  const std::int64_t end = std::min(samples.size(), first + count);
  std::vector<std::int64_t> indices(
      static_cast<std::size_t>(std::max<std::int64_t>(end - first, 0)));
  std::iota(indices.begin(), indices.end(), first);
  return make_batch(samples, indices);
}

}  // namespace headway::data
