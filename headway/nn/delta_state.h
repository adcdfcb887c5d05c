// What Gated DeltaNet layers remember: the last inputs of the convolution and a state per head, of
// one sequence or of many in slots. Size does not grow with the tokens.
// Not for: keys and values (layer_state.h).
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include <ATen/core/Tensor.h>

#include "headway/spec/model_spec.h"

namespace headway::nn {

/// Which slot each sequence of one forward continues; -1 = starts anew and is not kept. Shared by
/// all layers and rewritten by its owner before every forward.
using DeltaSlots = std::vector<int64_t>;

/// Legend: M slots, P = W-1 remembered inputs, C convolution channels, H value heads, K key dim,
/// V value dim.
class DeltaState {
 public:
  /// One sequence, nothing seen yet.
  explicit DeltaState(const spec::GatedDeltaNetSpec& spec)
      : DeltaState(spec, 1, std::make_shared<const DeltaSlots>(1, 0)) {}
  /// `count` slots of many sequences; `slots` is read at each call.
  DeltaState(const spec::GatedDeltaNetSpec& spec, int64_t count,
             std::shared_ptr<const DeltaSlots> slots)
      : spec_(spec), count_(count), slots_(std::move(slots)) {}

  const DeltaSlots& slots() const { return *slots_; }
  /// All slots [M,H,K,V] in float32 (float64 for float64), zeros until written; allocated by the
  /// first call, on the device of `like`.
  const at::Tensor& states_MHKV(const at::Tensor& like);
  /// The remembered inputs [N,P,C] of the sequences of this forward, in the dtype of the first
  /// `like`, and back.
  at::Tensor gather_inputs(const at::Tensor& like);
  void scatter_inputs(const at::Tensor& inputs_NPC);

  /// Forgets what is in a slot.
  void clear(int64_t slot);
  /// A copy that later tokens do not change.
  DeltaState snapshot() const;
  /// Bytes held.
  int64_t bytes() const;

 private:
  void allocate(const at::Tensor& like);

  spec::GatedDeltaNetSpec spec_;
  int64_t count_;
  std::shared_ptr<const DeltaSlots> slots_;
  at::Tensor inputs_;
  at::Tensor states_;
};

}  // namespace headway::nn
