// What every kernel of the gated delta rule takes and returns: the row type of the table in
// delta_rule.cpp. Not for: callers of the op (use headway/ops/delta_rule.h).
// Legend: T tokens, N sequences, G key heads, H value heads, K key dim, V value dim, C chunks.
#pragma once

#include <cstdint>
#include <vector>

#include <ATen/core/Tensor.h>

#include "headway/ops/delta_rule.h"
#include "headway/ops/kernel_table.h"

namespace headway::ops::internal {

/// Tokens of a chunk; the last of a sequence may have fewer.
inline constexpr int64_t kDeltaChunk = 64;

/// Checked arguments. Boundaries are borrowed for the length of a call.
struct DeltaRuleArguments {
  DeltaRuleInputs inputs;
  const std::vector<int64_t>& cu;
  DeltaRuleOptions options;
  bool keeps_states = false;  // chunk-entry states are wanted, for backward

  bool channel_decay() const { return inputs.log_decay.dim() == 3; }
  int64_t num_sequences() const { return static_cast<int64_t>(cu.size()) - 1; }
  int64_t tokens() const { return inputs.q_TGK.size(0); }
  int64_t key_heads() const { return inputs.q_TGK.size(1); }
  int64_t heads() const { return inputs.v_THV.size(1); }
  int64_t key_dim() const { return inputs.q_TGK.size(2); }
  int64_t value_dim() const { return inputs.v_THV.size(2); }
};

/// `states` [C,H,K,V]: the state each chunk starts from, sequence after sequence; undefined unless
/// kept.
struct DeltaRuleForward {
  at::Tensor out;          // [T,H,V]
  at::Tensor final_state;  // [N,H,K,V]
  at::Tensor states;
};

struct DeltaRuleBackwardArguments {
  at::Tensor states;
  at::Tensor d_out;          // [T,H,V], last dim contiguous, or undefined
  at::Tensor d_final_state;  // [N,H,K,V] contiguous, or undefined
};

/// In the dtype of their inputs; initial_state in the states' dtype.
struct DeltaRuleGradients {
  at::Tensor q, k, v, log_decay, beta, initial_state;
};

struct DeltaRuleFunctions {
  DeltaRuleForward (*forward)(const DeltaRuleArguments&) = nullptr;
  DeltaRuleGradients (*backward)(const DeltaRuleArguments&,
                                 const DeltaRuleBackwardArguments&) = nullptr;
  /// In place on states [M,H,K,V]; null: by forward on gathered states.
  at::Tensor (*step)(const DeltaRuleArguments&, const at::Tensor& states,
                     const std::vector<int64_t>& slots) = nullptr;
};

using DeltaRuleKernel = Kernel<DeltaRuleArguments, DeltaRuleFunctions>;

/// Row of `states` where sequence n begins, for n in [0, N]; the last is their number.
std::vector<int64_t> delta_chunk_offsets(const std::vector<int64_t>& cu);

/// Chunks on Highway loops and sgemm: float32 and bfloat16 on the CPU.
Support delta_rule_cpu_supports(const DeltaRuleArguments& arguments);
DeltaRuleForward delta_rule_cpu_forward(const DeltaRuleArguments& arguments);
DeltaRuleGradients delta_rule_cpu_backward(const DeltaRuleArguments& arguments,
                                           const DeltaRuleBackwardArguments& wanted);
at::Tensor delta_rule_cpu_step(const DeltaRuleArguments& arguments, const at::Tensor& states,
                               const std::vector<int64_t>& slots);

/// Token by token in double: float32 and bfloat16 on the CPU, states of up to 1024 elements.
Support delta_rule_small_supports(const DeltaRuleArguments& arguments);
DeltaRuleForward delta_rule_small_forward(const DeltaRuleArguments& arguments);
DeltaRuleGradients delta_rule_small_backward(const DeltaRuleArguments& arguments,
                                             const DeltaRuleBackwardArguments& wanted);
at::Tensor delta_rule_small_step(const DeltaRuleArguments& arguments, const at::Tensor& states,
                                 const std::vector<int64_t>& slots);

}  // namespace headway::ops::internal
