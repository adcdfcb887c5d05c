// Backends of module specs: which module does a job, as data. `fused` has norm and projection in
// one module, `composed` in two, and a wrapping provider replaces some entries of another one.
// Not for: kernels (ops picks those at run time).
#pragma once

#include <optional>
#include <string>

#include "headway/spec/block_arguments.h"

namespace headway::spec {

/// Module names of experts and whether they run as one grouped GEMM.
struct GroupedMlpModules {
  std::string experts;
  std::string linear_fc1;
  std::string linear_fc2;
  bool operator==(const GroupedMlpModules&) const = default;
};

/// One row of module names; empty = the backend has no such module.
struct BackendSpecProvider {
  std::string linear;
  std::string column_parallel_linear;
  std::string row_parallel_linear;
  std::string column_parallel_layer_norm_linear;  // empty = norm and projection are two modules
  std::string norm;
  std::string core_attention;
  std::string activation_func;        // empty = a plain function
  GroupedMlpModules grouped_experts;  // empty experts = none: sequential ones serve
  GroupedMlpModules sequential_experts;

  bool fuse_layernorm_and_linear() const { return !column_parallel_layer_norm_linear.empty(); }
  const GroupedMlpModules& grouped_mlp_modules(bool use_grouped_gemm) const {
    return use_grouped_gemm && !grouped_experts.experts.empty() ? grouped_experts
                                                                : sequential_experts;
  }
  bool operator==(const BackendSpecProvider&) const = default;
};

/// Norm and projection fused; Megatron's Transformer Engine names.
BackendSpecProvider fused_backend();

/// One module per operation; Megatron's local names. Has every module, so that linear and sparse
/// attention work on it, unfused.
BackendSpecProvider composed_backend();

/// `base` with every entry that `over` names replaced; what `over` leaves empty falls through.
BackendSpecProvider wrapping_backend(const BackendSpecProvider& over,
                                     const BackendSpecProvider& base);

/// The backend the arguments ask for: fused, wrapped by the quantised one with use_kitchen.
/// Errors: ConfigError unless transformer_impl is transformer_engine, or for an unknown
///   kitchen_attention_backend. Source: Megatron-Core, spec/variants.md §5.5.
BackendSpecProvider _get_backend_spec_provider(const BlockArguments& arguments);

}  // namespace headway::spec
