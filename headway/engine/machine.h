// What this machine can do and what the process has used of it, measured.
// Not for: choosing kernels (ops/kernel_table.h).
#pragma once

#include <cstdint>
#include <string>

#include <ATen/core/Tensor.h>

#include "headway/config/run_config.h"

namespace headway::engine {

/// Best rate of a square matrix product in `dtype` on `device`, in FLOP/s, over about 0.1 s.
double measure_peak_flops(at::ScalarType dtype, at::Device device);

/// Most memory held so far, in bytes: by the process (CPU), or by tensors on the GPU (CUDA).
std::int64_t peak_memory_bytes(at::Device device);

/// The device of a configuration. Errors: UnsupportedError if this build or machine has no CUDA.
at::Device resolve_device(config::Device device);

struct DtypeDecision {
  at::ScalarType dtype = at::kFloat;
  std::string reason;  // why `auto` chose it; empty when the configuration did
};

/// `auto` depends on the kind of machine alone, never on a timing, so that runs can be repeated.
DtypeDecision resolve_dtype(config::Dtype dtype, at::Device device);

}  // namespace headway::engine
