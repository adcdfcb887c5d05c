// Low-rank adapters in the tensor inventory: which rows of which projections carry a pair, and the
// tensors this adds. Not for: names in PEFT's files (io/adapter.h) or arithmetic
// (ops/low_rank_linear.h).
// Legend: I inputs, R rank, N adapted row segments of one projection, P their rows together.
#pragma once

#include <cstdint>
#include <set>
#include <string>
#include <vector>

#include "headway/config/adapter_config.h"
#include "headway/spec/tensor_inventory.h"

namespace headway::spec {

using config::AdapterKind;

struct AdapterSpec {
  AdapterKind kind = AdapterKind::kLora;
  int64_t rank = 0;
  double alpha = 0.0;
  bool rank_stabilized = false;
  std::set<std::string> segments;  // disk names of row segments, e.g. ….self_attn.q_proj.weight

  /// What multiplies the product of a pair: alpha / rank, or alpha / sqrt(rank).
  double scale() const;
};

inline constexpr const char* kAdapterA = "adapter.a";
inline constexpr const char* kAdapterB = "adapter.b";
inline constexpr const char* kAdapterMagnitude = "adapter.magnitude";

/// Endings of disk names where the segment's own ends in `.weight`, as PEFT has them.
inline constexpr const char* kDiskA = ".lora_A.weight";
inline constexpr const char* kDiskB = ".lora_B.weight";
inline constexpr const char* kDiskMagnitude = ".lora_magnitude_vector";

/// The tensors of a model under an adapter. Its own stay and do not train. A projection X with
/// adapted segments is followed by
///   X.adapter.a [N·R, I]        normal, of the spread 1/sqrt(3·I); decays
///   X.adapter.b [P, R]          zeros; decays
///   X.adapter.magnitude [P]     dora only; to be set from the weights (nn::reset_magnitudes)
/// each with one row segment for every adapted one, of its name, in its order.
/// Errors: ConfigError when a segment of the adapter is in no projection of the list.
/// Source: Hu et al. 2021 (LoRA); Liu et al. 2024 (DoRA); Kalajdzievski 2023 (rank-stabilised).
/// Test: tests/unit/spec/adapter_test.cpp
std::vector<TensorSpec> adapted(const std::vector<TensorSpec>& tensors, const AdapterSpec& adapter);

}  // namespace headway::spec
