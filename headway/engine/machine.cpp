// Timing a matrix product, asking the allocator and the CPU.
// Not for: benchmarks (bench/).
#include "headway/engine/machine.h"

#include <algorithm>
#include <chrono>

#include <ATen/Context.h>
#include <ATen/Functions.h>
#include <ATen/core/grad_mode.h>
#include <c10/core/CachingDeviceAllocator.h>
#include <fmt/format.h>
#include <sys/resource.h>

#include "headway/base/error.h"

namespace headway::engine {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

/// Instructions that multiply bfloat16 pairs. Training steps were measured 1.8 times as fast as in
/// float32 with AVX-512-BF16 alone; without either, products in bfloat16 run at a fifth of float32.
const char* bfloat16_instructions() {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("amx-bf16") != 0) return "AMX-BF16";
  if (__builtin_cpu_supports("avx512bf16") != 0) return "AVX-512-BF16";
#endif
  return nullptr;
}

}  // namespace

double measure_peak_flops(at::ScalarType dtype, at::Device device) {
  at::NoGradGuard no_grad;
  const std::int64_t n = device.is_cuda() ? 4096 : 1024;
  const at::Tensor a = at::ones({n, n}, at::dtype(dtype).device(device));
  at::Tensor c = at::mm(a, a);  // warm-up: threads, pages, library set-up
  (void)c[0][0].item<double>();
  double best = 0.0;
  const Clock::time_point begin = Clock::now();
  do {
    const Clock::time_point start = Clock::now();
    at::mm_out(c, a, a);
    (void)c[0][0].item<double>();  // waits for a GPU
    best = std::max(best, 2.0 * static_cast<double>(n * n * n) / seconds_since(start));
  } while (seconds_since(begin) < 0.1);
  return best;
}

std::int64_t peak_memory_bytes(at::Device device) {
  if (device.is_cuda()) {
    auto* allocator = static_cast<c10::DeviceAllocator*>(c10::GetAllocator(at::kCUDA));
    const auto stats = allocator->getDeviceStats(device.has_index() ? device.index() : 0);
    return stats.allocated_bytes[0].peak;
  }
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  return static_cast<std::int64_t>(usage.ru_maxrss) * 1024;
}

at::Device resolve_device(config::Device device) {
  if (device == config::Device::kCpu) return at::kCPU;
  if (!at::globalContext().hasCUDA()) {
    throw UnsupportedError(
        "[train] device = cuda, allowed cpu; hint: this build has no CUDA (preset cuda), or this "
        "machine has no usable GPU");
  }
  return {at::kCUDA, 0};
}

DtypeDecision resolve_dtype(config::Dtype dtype, at::Device device) {
  switch (dtype) {
    case config::Dtype::kFloat32:
      return {at::kFloat, ""};
    case config::Dtype::kBFloat16:
      return {at::kBFloat16, ""};
    case config::Dtype::kFloat64:
      return {at::kDouble, ""};
    case config::Dtype::kAuto:
      break;
  }
  if (device.is_cuda()) return {at::kBFloat16, "GPU"};
  if (const char* name = bfloat16_instructions()) {
    return {at::kBFloat16, fmt::format("CPU with {}, float32 master weights", name)};
  }
  return {at::kFloat, "CPU without AVX-512-BF16 or AMX"};
}

}  // namespace headway::engine
