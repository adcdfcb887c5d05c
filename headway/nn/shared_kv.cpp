// See shared_kv.h. Not for: attention.
#include "headway/nn/shared_kv.h"

#include <string>

#include "headway/base/error.h"
#include "headway/ops/fan_out.h"

namespace headway::nn {

KeysValues SharedKv::put(int64_t layer, const KeysValues& own) {
  const int64_t readers = readers_.at(static_cast<size_t>(layer));
  if (readers == 0) return own;
  std::vector<KeysValues> copies(static_cast<size_t>(readers) + 1, own);
  if (!own.pages) {
    const auto keys = ops::fan_out(own.k_SGK, readers + 1);
    const auto values = ops::fan_out(own.v_SGV, readers + 1);
    for (size_t i = 0; i < copies.size(); ++i) {
      copies[i].k_SGK = keys[i];
      copies[i].v_SGV = values[i];
    }
  }
  KeysValues mine = std::move(copies.back());
  copies.pop_back();
  held_[layer] = std::move(copies);
  return mine;
}

void SharedKv::put_from_outside(int64_t layer, const KeysValues& given) { put(layer, given); }

KeysValues SharedKv::take(int64_t layer) {
  const auto found = held_.find(layer);
  if (found == held_.end() || found->second.empty()) {
    throw InternalError("[nn::SharedKv] layer " + std::to_string(layer) +
                        " left no keys and values for another reader");
  }
  KeysValues taken = std::move(found->second.back());
  found->second.pop_back();
  return taken;
}

}  // namespace headway::nn
