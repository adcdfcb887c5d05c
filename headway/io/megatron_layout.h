// Megatron's names and row order of a dense GPT, and the way back. The only place that knows that
// linear_qkv interleaves its rows by query group.
// Not for: reading Megatron's own checkpoint folders.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

#include "headway/spec/model_spec.h"
#include "headway/spec/tensor_inventory.h"

namespace headway::io {

/// What decides the rows of linear_qkv: H query heads, G key/value heads of width K, and the gate.
struct QkvHeads {
  int64_t num_heads = 0;
  int64_t num_kv_heads = 0;
  int64_t head_dim = 0;
  spec::GateKind gate = spec::GateKind::kNone;
};

QkvHeads qkv_heads(const spec::AttentionSpec& attention);

/// Row of Megatron's linear_qkv for every row of our q | k | v | gate. With m = H/G, group g holds
/// rows [q (m·K) | gate channels (m·K, element_wise only) | k (K) | v (K)]; head_wise gates follow
/// after all groups, one row a head. Source: spec/attention.md §1.3.1.
/// Test: tests/unit/io/megatron_layout_test.cpp
std::vector<int64_t> megatron_qkv_rows(const QkvHeads& heads);

/// Rows of `megatron` [N, …] (weight or bias) in our order, and of `ours` in Megatron's.
/// Errors: ShapeError when the number of rows is not that of `heads`.
at::Tensor qkv_from_megatron(const at::Tensor& megatron, const QkvHeads& heads);
at::Tensor qkv_to_megatron(const at::Tensor& ours, const QkvHeads& heads);

/// What a name there depends on besides the parameter.
struct MegatronForm {
  bool linear = false;   // of a layer with linear attention
  bool grouped = false;  // experts.linear_fc1.weightE instead of local_experts.E, …
};

/// Megatron's state-dict name of a parameter of ours, for GPTModel
/// ("layers.2.mixer.qkv.weight" -> "decoder.layers.2.self_attention.linear_qkv.weight").
/// Errors: InternalError for a parameter that Megatron's GPT lacks.
std::string megatron_name(const std::string& parameter, const MegatronForm& form = {});

/// A run of rows of a parameter under Megatron's name.
struct MegatronPart {
  std::string name;
  int64_t begin = 0;
  int64_t rows = 0;
};

/// The tensors that hold a parameter there: itself, or one for every expert, named
/// experts.local_experts.E.linear_fc1.weight or, grouped, experts.linear_fc1.weightE; of latent
/// attention one for each latent (linear_q_down_proj, linear_kv_down_proj) or, grouped,
/// linear_qkv_down_proj.
std::vector<MegatronPart> megatron_parts(const spec::TensorSpec& tensor, const MegatronForm& form);

/// The name of a layer's norm where upstream fuses it with the projection behind it (Transformer
/// Engine: "…self_attention.in_proj.layer_norm_weight"); "" for every other parameter.
std::string megatron_fused_name(const std::string& parameter, const MegatronForm& form);

/// The self-attention that projects by `parameter`, whose rows are therefore interleaved; null for
/// every other parameter.
const spec::AttentionSpec* interleaved_attention(const spec::ModelSpec& spec,
                                                 const std::string& parameter);

}  // namespace headway::io
