// How Megatron-Core cuts self-attention over tensor-parallel ranks, and how the cuts become one
// attention again.
// Not for: row order within a whole linear_qkv (megatron_layout.h), or running in parallel (dist).
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

#include "headway/io/megatron_layout.h"

namespace headway::io {

/// One rank of `size` tensor-parallel ranks.
struct TensorRank {
  int64_t size = 1;
  int64_t rank = 0;
};

enum class QkvPart { kQuery, kChannelGate, kKey, kValue, kHeadGate };

/// Consecutive rows of a rank's linear_qkv that belong to one head: channels
/// [channel, channel + rows) of it. With fewer groups than ranks a cut may go through a head, so
/// the first and last segment of a rank may be fragments.
struct QkvRowSegment {
  QkvPart part = QkvPart::kQuery;
  int64_t head = 0;     // query head (query, gates) or kv head (key, value) of the whole model
  int64_t channel = 0;  // first channel; 0 for head gates
  int64_t begin = 0;    // first row in the rank's matrix
  int64_t rows = 0;
  int64_t global = 0;  // first row in the whole matrix
  bool operator==(const QkvRowSegment&) const = default;
};

/// Segments that tile the rows of the rank's linear_qkv in order. Whole groups when G >= T, else a
/// plain cut of the grouped rows; head-wise gates of the rank's query heads stand at its end.
/// Errors: ConfigError naming num_attention_heads, num_query_groups and
///   tensor_model_parallel_size: H % G, H % T, neither of G and T divides the other (V3), rows that
///   do not divide by T, head gates with G < T (V7).
/// Source: spec/attention.md §1.3.1, §1.6, §1.7.5. Test: tests/unit/io/megatron_shards_test.cpp
std::vector<QkvRowSegment> qkv_row_segments(const QkvHeads& heads, const TensorRank& rank = {});

/// Row of the whole linear_qkv for every row of the rank's.
std::vector<int64_t> megatron_rank_rows(const QkvHeads& heads, const TensorRank& rank);

/// Tensors of a SelfAttention by Megatron's names: linear_qkv.weight, linear_qkv.bias,
/// linear_qkv.layer_norm_*, linear_proj.weight, linear_proj.bias, q_layernorm.*, k_layernorm.*,
/// core_attention.softmax_offset (any subset). Values, or gradients of what is cut. Keys that end
/// in _extra_state are left out.
using AttentionTensors = std::map<std::string, at::Tensor>;

/// What `rank` holds of a whole attention: rows of linear_qkv, columns of linear_proj, sinks of its
/// heads, everything else whole.
/// Errors: ShapeError (sizes that are not those of `heads`, names not in the list above);
/// ConfigError as qkv_row_segments.
AttentionTensors attention_shard(const AttentionTensors& whole, const QkvHeads& heads,
                                 const TensorRank& rank);

/// The whole attention of all ranks' shards, in rank order: the inverse of attention_shard. With
/// head-wise gates that is not the concatenation of the shards.
/// Errors: CheckpointError when a shard lacks a tensor that another has, or a tensor that every
/// rank holds whole differs between them (naming it, both ranks and the largest difference);
/// ShapeError; ConfigError.
AttentionTensors attention_whole(const std::vector<AttentionTensors>& shards,
                                 const QkvHeads& heads);

/// The keys of a Megatron checkpoint: linear_qkv.X of a head-gated attention becomes
/// linear_qkv.X._qkv and linear_qkv.X._gate (X: weight, bias), because only the parts of a shard
/// can be cut again. Other tensors, and attentions without a head gate, stay as they are.
/// Errors: ShapeError; ConfigError.
AttentionTensors to_checkpoint_keys(const AttentionTensors& shard, const QkvHeads& heads,
                                    const TensorRank& rank = {});

/// The inverse. A single rank's file may hold linear_qkv.X as one tensor [qkv; gate]; with more
/// ranks that is refused, for a matrix that was cut across its gate rows has the same shape.
/// Errors: CheckpointError (one tensor where two keys are needed, only one of the keys);
/// ShapeError naming the key and its rows (a wrong cut); ConfigError.
AttentionTensors from_checkpoint_keys(const AttentionTensors& file, const QkvHeads& heads,
                                      const TensorRank& rank = {});

}  // namespace headway::io
