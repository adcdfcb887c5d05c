// Counters around libtorch's CPU allocator. Not for: allocating differently.
#include "headway/ops/tensor_memory.h"

#include <atomic>
#include <cstring>
#include <utility>

#include <c10/core/CPUAllocator.h>

namespace headway::ops {
namespace {

constexpr uint8_t kPriority = 100;

// Not in the object: tensors release their memory after it is gone.
std::atomic<int64_t> alive{0};
std::atomic<int64_t> peak{0};

struct Record {
  c10::DataPtr memory;
  int64_t size;
};

void release(void* record) {
  auto* known = static_cast<Record*>(record);
  alive -= known->size;
  delete known;
}

}  // namespace

TensorMemory::TensorMemory() : before_(c10::GetCPUAllocator()) {
  c10::SetCPUAllocator(this, kPriority);
  start();
}

TensorMemory::~TensorMemory() { c10::SetCPUAllocator(before_, kPriority); }

void TensorMemory::start() {
  first_ = alive;
  peak = first_;
}

int64_t TensorMemory::peak_bytes() const { return peak - first_; }

int64_t TensorMemory::bytes() const { return alive - first_; }

c10::DataPtr TensorMemory::allocate(size_t size) {
  c10::DataPtr memory = before_->allocate(size);
  const int64_t now = alive += static_cast<int64_t>(size);
  int64_t most = peak;
  while (now > most && !peak.compare_exchange_weak(most, now)) {
  }
  void* data = memory.get();
  const c10::Device device = memory.device();
  return {data, new Record{std::move(memory), static_cast<int64_t>(size)}, &release, device};
}

void TensorMemory::copy_data(void* to, const void* from, size_t size) const {
  std::memcpy(to, from, size);
}

}  // namespace headway::ops
