// Megatron's names and row order of a CrossAttention, and the way back.
// Not for: self-attention and whole models (megatron_layout.h).
#pragma once

#include <string>

#include <ATen/core/Tensor.h>

#include "headway/spec/cross_attention.h"

namespace headway::io {

/// Megatron's state-dict name of a parameter of ours ("kv.weight" -> "linear_kv.weight").
/// Errors: InternalError for a parameter that cross-attention lacks.
std::string megatron_cross_name(const std::string& parameter);

/// Rows of linear_kv (weight or bias), where head j holds [k_j (K) | v_j (V)], in our order k | v;
/// and of ours in Megatron's. Errors: ShapeError when the number of rows is not H·(K+V).
/// Source: spec/attention.md §2. Test: tests/unit/io/megatron_cross_attention_test.cpp
at::Tensor kv_from_megatron(const at::Tensor& megatron, const spec::CrossAttentionSpec& spec);
at::Tensor kv_to_megatron(const at::Tensor& ours, const spec::CrossAttentionSpec& spec);

}  // namespace headway::io
