// Not for: anything but lazy_zeros.h.
#include "headway/ops/internal/lazy_zeros.h"

#include <ATen/Functions.h>
#include <c10/core/ScalarType.h>
#include <sys/mman.h>

#include "headway/base/error.h"

namespace headway::ops::internal {
namespace {

constexpr int64_t kWorthMapping = int64_t{1} << 20;

}  // namespace

at::Tensor lazy_zeros(at::IntArrayRef sizes, at::ScalarType type) {
  int64_t bytes = static_cast<int64_t>(c10::elementSize(type));
  for (const int64_t size : sizes) bytes *= size;
  const auto options = at::TensorOptions().dtype(type);
  if (bytes < kWorthMapping) return at::zeros(sizes, options);
  void* memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) {
    throw UnsupportedError("[memory] gradient = " + std::to_string(bytes) +
                           " bytes, allowed what the machine has free");
  }
  return at::from_blob(
      memory, sizes, [bytes](void* pages) { munmap(pages, bytes); }, options);
}

}  // namespace headway::ops::internal
