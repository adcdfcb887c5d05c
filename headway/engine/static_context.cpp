// Static caches: one page a sequence, of all its rows. Not for: attending to them.
#include "headway/engine/static_context.h"

#include <algorithm>

#include <ATen/Functions.h>
#include <ATen/core/grad_mode.h>

#include "headway/base/checked_math.h"
#include "headway/base/error.h"
#include "headway/spec/kv_sharing.h"

namespace headway::engine {
namespace {

void check_size(const char* name, int64_t value) {
  if (value >= 1) return;
  throw ConfigError(std::string("[static context] ") + name + " = " + std::to_string(value) +
                    ", allowed 1 or more");
}

[[noreturn]] void refuse(const std::string& what) { throw ShapeError("[static context] " + what); }

/// A buffer [S,B,G,X] as its pages [B,S,G,X].
at::Tensor as_pages(const at::Tensor& buffer_SBGX) { return buffer_SBGX.transpose(0, 1); }

}  // namespace

StaticContext::StaticContext(nn::Transformer& model, const StaticContextOptions& options)
    : model_(&model), options_(options), step_(std::make_shared<nn::PageStep>()) {
  check_size("max_batch_size", options.max_batch_size);
  check_size("max_sequence_length", options.max_sequence_length);
  const auto buffers =
      at::TensorOptions().dtype(model.parameters().dtype()).device(model.parameters().device());
  for (size_t i = 0; i < model.spec().layers.size(); ++i) {
    const spec::LayerSpec& layer = model.spec().layers[i];
    const auto held = spec::cached_rows(layer);
    if (!held) {
      throw UnsupportedError("[static context] layer " + std::to_string(i) +
                             ": keeps no keys and values; allowed attention, or one sequence at a "
                             "time (Generator)");
    }
    if (spec::kv_source_of(layer)) {
      layers_.emplace_back();
      state_.layers.emplace_back(nn::NoState());
      continue;
    }
    // Latent attention keeps rotated keys on every path.
    const bool later = !options.flash_decode && spec::attention_of(layer) != nullptr;
    const auto cached = later ? nn::CachedKeys::kUnrotated : nn::CachedKeys::kRotated;
    const auto buffer = [&](int64_t dim) {
      checked_product<ConfigError>(
          {options.max_sequence_length, options.max_batch_size, held->heads, dim, int64_t{8}},
          "static context");
      return at::empty({options.max_sequence_length, options.max_batch_size, held->heads, dim},
                       buffers);
    };
    layers_.push_back({buffer(held->key_dim), buffer(held->value_dim)});
    state_.layers.emplace_back(nn::PagedKv(as_pages(layers_.back().k_SBGK),
                                           as_pages(layers_.back().v_SBGV), step_, cached));
  }
}

void StaticContext::increment_sequence_len_offset(int64_t by) {
  if (by < 0 || by > options_.max_sequence_length - sequence_len_offset_) {
    refuse("sequence_len_offset = " + std::to_string(sequence_len_offset_) + " + " +
           std::to_string(by) + ", allowed up to inference_max_seq_length (= " +
           std::to_string(options_.max_sequence_length) + ")");
  }
  sequence_len_offset_ += by;
}

void StaticContext::increment_batch_size_offset(int64_t by) {
  if (by < 0 || by > options_.max_batch_size - batch_size_offset_) {
    refuse("batch_size_offset = " + std::to_string(batch_size_offset_) + " + " +
           std::to_string(by) +
           ", allowed up to max_batch_size (= " + std::to_string(options_.max_batch_size) + ")");
  }
  batch_size_offset_ += by;
}

void StaticContext::reset() {
  sequence_len_offset_ = batch_size_offset_ = 0;
  rows_written_ = 0;
  decode_mode_ = false;
}

void StaticContext::swap_key_value(const std::vector<int64_t>& batch_idx) {
  if (rows_written_ == 0) refuse("swap_key_value: nothing is cached yet");
  const auto count = static_cast<int64_t>(batch_idx.size());
  if (count != options_.max_batch_size) {
    refuse("swap_key_value: batch_idx has " + std::to_string(count) +
           " entries, allowed max_batch_size (= " + std::to_string(options_.max_batch_size) + ")");
  }
  for (const int64_t index : batch_idx) {
    if (index < 0 || index >= count) {
      refuse("swap_key_value: batch_idx = " + std::to_string(index) + ", allowed 0 to " +
             std::to_string(count - 1));
    }
  }
  const at::NoGradGuard no_grad;
  const at::Tensor order = at::tensor(batch_idx, at::kLong).to(layers_.front().k_SBGK.device());
  for (const Layer& layer : layers_) {
    if (!layer.k_SBGK.defined()) continue;  // it reads another layer's
    for (at::Tensor buffer : {layer.k_SBGK, layer.v_SBGV}) {
      // Only rows that were written; index_select copies before the buffer changes.
      at::Tensor rows = buffer.narrow(0, 0, rows_written_);
      rows.copy_(rows.index_select(1, order));
    }
  }
}

ops::Sequences StaticContext::begin(int64_t batch, int64_t length) {
  const int64_t past = sequence_len_offset_;
  if (length > options_.max_sequence_length - past) {
    refuse("rows = " + std::to_string(past) + " + " + std::to_string(length) +
           ", allowed up to inference_max_seq_length (= " +
           std::to_string(options_.max_sequence_length) + ")");
  }
  if (batch > options_.max_batch_size - batch_size_offset_) {
    refuse("sequences = " + std::to_string(batch_size_offset_) + " + " + std::to_string(batch) +
           ", allowed up to max_batch_size (= " + std::to_string(options_.max_batch_size) + ")");
  }
  if (decode_mode_ && rows_written_ == 0) refuse("decode: allowed after a prefill");
  at::Tensor table = at::empty({batch, 1}, at::kInt),
             slots = at::empty({batch * length}, at::kLong);
  for (int64_t b = 0; b < batch; ++b) {
    const int64_t column = batch_size_offset_ + b;
    table.data_ptr<int32_t>()[b] = static_cast<int32_t>(column);
    for (int64_t t = 0; t < length; ++t) {
      slots.data_ptr<int64_t>()[b * length + t] = column * options_.max_sequence_length + past + t;
    }
  }
  step_->block_table_NM = table;
  step_->slots_T = slots;
  return ops::continued_sequences(std::vector<int64_t>(static_cast<size_t>(batch), past),
                                  std::vector<int64_t>(static_cast<size_t>(batch), length));
}

at::Tensor StaticContext::forward(const at::Tensor& ids_BS) {
  if (ids_BS.dim() != 2 || ids_BS.numel() == 0 || ids_BS.scalar_type() != at::kLong) {
    refuse("ids: allowed int64 [batch, tokens] with at least one token");
  }
  const at::NoGradGuard no_grad;
  const ops::Sequences sequences = begin(ids_BS.size(0), ids_BS.size(1));
  const at::Tensor h = model_->forward(ids_BS.flatten(), sequences, {&state_, nullptr});
  rows_written_ = std::max(rows_written_, sequence_len_offset_ + ids_BS.size(1));
  return h.unflatten(0, {ids_BS.size(0), ids_BS.size(1)});
}

}  // namespace headway::engine
