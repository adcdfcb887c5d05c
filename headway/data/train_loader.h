// The endless, shuffled, resumable sequence of training batches.
// Not for: evaluation (make_sequential_batch).
#pragma once

#include <cstdint>

#include "headway/base/json.h"
#include "headway/data/batch.h"
#include "headway/data/packing.h"

namespace headway::data {

/// The next sample: `sample` of the shuffled order of `epoch`.
struct DataPosition {
  std::int64_t epoch = 0;
  std::int64_t sample = 0;
  bool operator==(const DataPosition&) const = default;
};

/// Every epoch visits every sample once, in an order of its own given by (seed, epoch). Epochs
/// follow without a break: a batch may hold the end of one and the start of the next. What comes
/// next depends on the position alone, so a resumed run reads the same batches, bit for bit.
class TrainLoader {
 public:
  TrainLoader(PackedSamples samples, std::uint64_t seed);

  /// The next `sample_count` samples.
  Batch next(std::int64_t sample_count);
  /// Moves on as next() does without reading anything.
  void skip(std::int64_t sample_count);

  const PackedSamples& samples() const { return samples_; }
  const DataPosition& position() const { return position_; }

  /// {"epoch", "sample", "data"}: the position, and a hash of data, split, packing and seed.
  Json state() const;
  /// Errors: CheckpointError if the state is malformed or belongs to other data, packing or seed.
  void restore(const Json& state);

 private:
  std::string identity() const;
  void advance();

  PackedSamples samples_;
  std::uint64_t seed_;
  DataPosition position_;
};

}  // namespace headway::data
