// Bytes of CPU tensors that are alive, and the most there were: what activations cost.
// Not for: memory outside tensors, or GPUs (engine/machine.h asks their allocator).
#pragma once

#include <cstdint>

#include <c10/core/Allocator.h>

namespace headway::ops {

/// While it lives it stands in for libtorch's CPU allocator and counts what goes through it;
/// tensors may outlive it. At most one at a time. For benchmarks and tests: counting is not free.
class TensorMemory final : public c10::Allocator {
 public:
  TensorMemory();
  ~TensorMemory() override;
  TensorMemory(const TensorMemory&) = delete;
  TensorMemory& operator=(const TensorMemory&) = delete;

  /// Starts a measurement: bytes are counted from what is alive now.
  void start();
  /// Most bytes alive at once since start().
  int64_t peak_bytes() const;
  /// Bytes alive now that were not at start(); negative when more was freed.
  int64_t bytes() const;

  c10::DataPtr allocate(size_t size) override;
  void copy_data(void* to, const void* from, size_t size) const override;

 private:
  c10::Allocator* before_;
  int64_t first_ = 0;
};

}  // namespace headway::ops
