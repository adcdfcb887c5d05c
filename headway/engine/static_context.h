// Caches of a batch of equally long sequences, in buffers of fixed size: Megatron's static
// inference context. Not for: requests that come and go (dynamic_context.h).
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include <ATen/core/Tensor.h>

#include "headway/nn/layer_state.h"
#include "headway/nn/transformer.h"
#include "headway/ops/sequences.h"

namespace headway::engine {

struct StaticContextOptions {
  int64_t max_batch_size = 0;
  int64_t max_sequence_length = 0;
  /// Keys are cached rotated and read where they lie. Otherwise they are cached unrotated and all
  /// of them rotated at every step, which lets a caller look at them before rotation.
  bool flash_decode = false;
};

/// One K and one V buffer [max_sequence_length, max_batch_size, G, d] a layer. A call works on rows
/// [sequence_len_offset, +s) of columns [batch_size_offset, +b): any number of tokens, causal from
/// the bottom right. Megatron's names. A call that refuses changes nothing.
/// Test: tests/unit/engine/static_context_test.cpp
class StaticContext {
 public:
  /// Buffers of the model's dtype on its device. Errors: ConfigError (sizes).
  StaticContext(nn::Transformer& model, const StaticContextOptions& options);

  int64_t sequence_len_offset() const { return sequence_len_offset_; }
  int64_t batch_size_offset() const { return batch_size_offset_; }
  void increment_sequence_len_offset(int64_t by);
  void reset_sequence_len_offset() { sequence_len_offset_ = 0; }
  void increment_batch_size_offset(int64_t by);
  void reset_batch_size_offset() { batch_size_offset_ = 0; }

  void enable_prefill_mode() { decode_mode_ = false; }
  void enable_decode_mode() { decode_mode_ = true; }
  bool is_decode_only() const { return decode_mode_; }

  /// Sequence i becomes a copy of what sequence batch_idx[i] was, in every layer: reorders or
  /// duplicates beams. Errors: ShapeError unless there is one index a sequence, each of them valid.
  void swap_key_value(const std::vector<int64_t>& batch_idx);

  /// Offsets 0 and prefill mode; the buffers stay.
  void reset();

  /// Final hidden states [b,s,D] of ids [b,s], keys and values kept. Does not move the offset.
  /// Errors: ShapeError when rows or columns run out (naming inference_max_seq_length or
  /// max_batch_size), when a decode comes before any prefill.
  at::Tensor forward(const at::Tensor& ids_BS);

  /// [max_sequence_length, max_batch_size, G, K or V] of layer `i`: Megatron's key_value_memory.
  const at::Tensor& keys(size_t layer) const { return layers_[layer].k_SBGK; }
  const at::Tensor& values(size_t layer) const { return layers_[layer].v_SBGV; }
  int64_t bytes() const { return state_.bytes(); }

 private:
  struct Layer {
    at::Tensor k_SBGK;
    at::Tensor v_SBGV;
  };
  ops::Sequences begin(int64_t batch, int64_t length);

  nn::Transformer* model_;
  StaticContextOptions options_;
  std::vector<Layer> layers_;
  std::shared_ptr<nn::PageStep> step_;
  nn::ModelState state_;
  int64_t sequence_len_offset_ = 0;
  int64_t batch_size_offset_ = 0;
  bool decode_mode_ = false;
  int64_t rows_written_ = 0;
};

}  // namespace headway::engine
