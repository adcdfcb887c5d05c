// Keys and values that layers of one forward pass leave for later layers to read.
// Not for: what is kept between passes (layer_state.h) or which layer reads which
// (spec/kv_sharing.h).
// Legend: S keys, G kv heads, K head dim, V value dim.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <vector>

#include <ATen/core/Tensor.h>

#include "headway/nn/paged_kv.h"
#include "headway/ops/paged_attention.h"
#include "headway/ops/sequences.h"

namespace headway::nn {

/// What the queries of a layer attend to: rows after norm and rotation, or rows in pages.
struct KeysValues {
  at::Tensor k_SGK;
  at::Tensor v_SGV;
  std::optional<ops::Sequences> sequences;  // when there are more rows than new tokens
  std::optional<ops::PagedKeys> pages;      // instead of the two tensors
  CachedKeys cached = CachedKeys::kRotated;
};

/// Keys and values by layer, of one pass. The gradients of all readers and of the layer itself
/// reach its projection as one sum (ops/fan_out.h). A pass owns its record: nothing is left for the
/// next.
class SharedKv {
 public:
  /// `readers`: for every layer, how many others will take its keys and values.
  explicit SharedKv(std::vector<int64_t> readers) : readers_(std::move(readers)) {}

  /// Keeps what layer `layer` attends to, if others read it; returns what the layer itself uses.
  KeysValues put(int64_t layer, const KeysValues& own);
  /// The same for keys and values of a layer that ran elsewhere and uses them no more.
  void put_from_outside(int64_t layer, const KeysValues& given);
  /// What layer `layer` left, once for each reader. InternalError when there is no more.
  KeysValues take(int64_t layer);

 private:
  std::vector<int64_t> readers_;
  std::map<int64_t, std::vector<KeysValues>> held_;
};

}  // namespace headway::nn
