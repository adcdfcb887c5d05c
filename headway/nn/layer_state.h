// What a layer remembers between calls during generation.
// Not for: parameters or training.
#pragma once

#include <cstdint>
#include <optional>
#include <variant>
#include <vector>

#include <ATen/core/Tensor.h>

#include "headway/nn/delta_state.h"
#include "headway/nn/paged_kv.h"
#include "headway/ops/sequences.h"
#include "headway/spec/model_spec.h"

namespace headway::nn {

/// Rotated keys and values of one sequence (of latent attention: its rows and the indexer's keys).
/// A full layer keeps every token (buffers double when full); a layer with a window of W keeps at
/// most the last W-1, compacted when its buffer of about 2W rows is full, so memory stays constant
/// and rows stay in order.
class KvCache {
 public:
  explicit KvCache(std::optional<int64_t> window = std::nullopt) : window_(window) {}

  /// Appends k, v [T,G,·]; returns views of what the T new queries may need, the new rows last.
  struct View {
    at::Tensor k_SGK;
    at::Tensor v_SGV;
  };
  View append(const at::Tensor& k_TGK, const at::Tensor& v_TGV);

  /// Forgets the last `rows` of those appended last, as if they had never been: of a window, the
  /// rows that they pushed out are seen again. Copies made since hold rows that will be written
  /// over. Errors: InternalError for more rows than that.
  void drop_last(int64_t rows);

  /// Rows of earlier tokens still held.
  int64_t length() const { return end_ - begin_; }
  /// Bytes of the buffers.
  int64_t bytes() const;
  /// Rows the buffers can hold.
  int64_t capacity() const { return k_.defined() ? k_.size(0) : 0; }

 private:
  void make_room(int64_t rows, const at::Tensor& k, const at::Tensor& v);

  std::optional<int64_t> window_;
  at::Tensor k_;
  at::Tensor v_;
  int64_t begin_ = 0;
  int64_t end_ = 0;
  int64_t last_rows_ = 0;  // of the last append that are still held
};

/// Of a layer that reads what another keeps.
struct NoState {
  int64_t bytes() const { return 0; }
};

/// Closed set, like spec::MixerSpec: one alternative per way of keeping something. KvCache and
/// DeltaState belong to one sequence; PagedKv is one layer's share of a context that serves many
/// sequences in one forward and tells them apart by a step its owner rewrites
/// (docs/architecture.md).
using LayerState = std::variant<KvCache, PagedKv, DeltaState, NoState>;

/// Boundaries of `count` new tokens of the one sequence whose states have read `past`.
ops::Sequences next_tokens(int64_t past, int64_t count);

/// Whether drop_last works for a state; one that every token changes cannot go back.
bool can_drop(const LayerState& state);
/// KvCache::drop_last. Errors: UnsupportedError for a state that cannot.
void drop_last(LayerState& state, int64_t rows);

/// State of a whole stack: of one sequence, or of all sequences of a context.
struct ModelState {
  std::vector<LayerState> layers;
  int64_t num_tokens = 0;  // tokens seen so far; of one sequence also the position of the next one
  /// Every layer forgets the last `rows` tokens of the last pass.
  void drop_last(int64_t rows);
  int64_t bytes() const;
  /// A copy of the state of one sequence that later tokens do not change. A KvCache shares its
  /// buffers, whose rows up to its length are never written again. Errors: InternalError for the
  /// state of many sequences.
  ModelState snapshot() const;
};

/// Empty state of one sequence for a layer, and for the stack of `spec`.
LayerState make_state(const spec::LayerSpec& layer);
ModelState make_state(const spec::ModelSpec& spec);

}  // namespace headway::nn
