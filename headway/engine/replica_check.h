// Parameters that every process holds whole must be the same everywhere.
// Not for: values of one process (nn/realtime_checks.h).
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include <ATen/core/Tensor.h>

#include "headway/dist/transport.h"

namespace headway::engine {

/// 64-bit hash of shape, dtype and bytes: one changed bit changes it.
uint64_t tensor_hash(const at::Tensor& tensor);

/// Compares `parameters` (name, tensor; the same list everywhere) between all processes by hash;
/// one process costs nothing. Collective. Errors, on every process: InternalError naming the first
/// tensor that differs, along which axis, two ranks that disagree and the norm of their difference.
/// Source: spec/attention.md §6.3. Test: tests/unit/engine/replica_check_test.cpp
void check_replicas(const std::vector<std::pair<std::string, at::Tensor>>& parameters,
                    const dist::Transport& transport);

}  // namespace headway::engine
