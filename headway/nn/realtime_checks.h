// Checks of what flows through a forward pass: shapes, finite values, gates, caches, head norms.
// Not for: finding out afterwards where a loss became NaN (engine/non_finite.h), or comparing ranks
// (engine/replica_check.h).
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>

#include <ATen/core/Tensor.h>

namespace headway::nn {

/// Counts what it looks at and how long that takes. Every failed check throws, naming the layer,
/// the tensor, what was seen and what is allowed: NonFiniteError for values that are not finite,
/// InternalError for everything else, which only a bug or broken memory can cause. A forward pass
/// that recompute repeats is not checked again.
/// Source: spec/attention.md §6.3. Test: tests/unit/nn/realtime_checks_test.cpp
class RealtimeChecks {
 public:
  /// Names the layer of the checks that follow, from 0, and its block; -1 = outside the stack.
  void enter_layer(int64_t layer, const std::string& block);

  /// `x` has `shape` and only finite values.
  void tensor(const char* name, const at::Tensor& x, at::IntArrayRef shape);
  /// A gate of [0, 1] was applied: |gated| <= |core| and no sign changed, everywhere.
  void gate(const at::Tensor& core, const at::Tensor& gated);
  /// Root mean square of every row of x [..., K] <= `bound`, up to rounding: what the weight of the
  /// norm that made it allows.
  void head_norm(const char* name, const at::Tensor& x, double bound);
  /// A cache that held `before` rows and took `added` hands out `rows` of its `capacity`: all the
  /// added ones, and no more than it can hold or has seen.
  void cache(int64_t before, int64_t added, int64_t rows, int64_t capacity);

  int64_t count() const { return count_; }
  double seconds() const { return seconds_; }

 private:
  class Timer;
  std::string place(const std::string& name) const;

  std::string layer_;
  int64_t count_ = 0;
  double seconds_ = 0.0;
};

}  // namespace headway::nn
