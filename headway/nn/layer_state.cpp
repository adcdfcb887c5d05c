// Key/value storage of a layer between calls. Not for: attending to it.
#include "headway/nn/layer_state.h"

#include <algorithm>

#include <ATen/Functions.h>

#include "headway/base/error.h"

namespace headway::nn {
namespace {

constexpr int64_t kSmallestCache = 64;

at::Tensor empty_rows(const at::Tensor& like, int64_t rows) {
  return at::empty({rows, like.size(1), like.size(2)}, like.options().requires_grad(false));
}

/// Copies rows [begin, begin+count) of `from` to the front of `to`; the two never overlap.
void copy_rows(at::Tensor& to, const at::Tensor& from, int64_t begin, int64_t count) {
  if (count > 0) to.narrow(0, 0, count).copy_(from.narrow(0, begin, count));
}

}  // namespace

void KvCache::make_room(int64_t rows, const at::Tensor& k, const at::Tensor& v) {
  if (capacity() - end_ >= rows) return;
  const int64_t kept = length();
  const int64_t wanted =
      window_ ? kept + std::max(rows, *window_) : std::max(2 * capacity(), kept + rows);
  // A fresh buffer rather than a move in place: source and target rows may overlap, and views
  // handed out stay valid.
  at::Tensor new_k = empty_rows(k, std::max(wanted, kSmallestCache));
  at::Tensor new_v = empty_rows(v, new_k.size(0));
  copy_rows(new_k, k_, begin_, kept);
  copy_rows(new_v, v_, begin_, kept);
  k_ = std::move(new_k);
  v_ = std::move(new_v);
  begin_ = 0;
  end_ = kept;
}

KvCache::View KvCache::append(const at::Tensor& k_TGK, const at::Tensor& v_TGV) {
  const int64_t rows = k_TGK.size(0);
  make_room(rows, k_TGK, v_TGV);
  k_.narrow(0, end_, rows).copy_(k_TGK);
  v_.narrow(0, end_, rows).copy_(v_TGV);
  const int64_t first = begin_;
  end_ += rows;
  View view{k_.narrow(0, first, end_ - first), v_.narrow(0, first, end_ - first)};
  if (window_) begin_ = std::max(begin_, end_ - (*window_ - 1));
  last_rows_ = rows;
  return view;
}

// make_room alone throws rows away, and before it appends: what a window's last append pushed out
// still lies in front.
void KvCache::drop_last(int64_t rows) {
  if (rows < 0 || rows > last_rows_) {
    throw InternalError("[nn::KvCache] rows to drop = " + std::to_string(rows) + ", allowed 0 to " +
                        std::to_string(last_rows_) + ", as appended last");
  }
  end_ -= rows;
  last_rows_ -= rows;
  begin_ = window_ ? std::max<int64_t>(end_ - (*window_ - 1), 0) : 0;
}

int64_t KvCache::bytes() const {
  return k_.defined() ? static_cast<int64_t>(k_.nbytes() + v_.nbytes()) : 0;
}

ops::Sequences next_tokens(int64_t past, int64_t count) {
  ops::Sequences sequences = ops::continued_sequences({past}, {count});
  sequences.cu_k = sequences.cu_q;
  sequences.max_k = sequences.max_q;
  return sequences;
}

bool can_drop(const LayerState& state) { return std::holds_alternative<KvCache>(state); }

void drop_last(LayerState& state, int64_t rows) {
  auto* cache = std::get_if<KvCache>(&state);
  if (cache == nullptr) {
    throw UnsupportedError("[nn::drop_last] state: allowed keys and values of one sequence");
  }
  cache->drop_last(rows);
}

void ModelState::drop_last(int64_t rows) {
  for (LayerState& layer : layers) nn::drop_last(layer, rows);
  num_tokens -= rows;
}

int64_t ModelState::bytes() const {
  int64_t total = 0;
  for (const LayerState& layer : layers) {
    total += std::visit([](const auto& state) { return state.bytes(); }, layer);
  }
  return total;
}

namespace {

LayerState copy_of(const KvCache& cache) { return cache; }
LayerState copy_of(const NoState& state) { return state; }
LayerState copy_of(const DeltaState& state) { return state.snapshot(); }
LayerState copy_of(const PagedKv&) {
  throw InternalError("[model state] pages belong to many sequences, allowed the state of one");
}

LayerState empty_state(const spec::AttentionSpec& attention) {
  if (attention.kv_source) return NoState();
  return KvCache(attention.window);
}
LayerState empty_state(const spec::GatedDeltaNetSpec& mixer) { return DeltaState(mixer); }
LayerState empty_state(const spec::LatentAttentionSpec&) { return KvCache(); }

}  // namespace

ModelState ModelState::snapshot() const {
  ModelState copy;
  copy.num_tokens = num_tokens;
  for (const LayerState& layer : layers) {
    copy.layers.push_back(std::visit([](const auto& state) { return copy_of(state); }, layer));
  }
  return copy;
}

LayerState make_state(const spec::LayerSpec& layer) {
  return std::visit([](const auto& mixer) { return empty_state(mixer); }, layer.mixer);
}

ModelState make_state(const spec::ModelSpec& spec) {
  ModelState state;
  for (const spec::LayerSpec& layer : spec.layers) state.layers.push_back(make_state(layer));
  return state;
}

}  // namespace headway::nn
