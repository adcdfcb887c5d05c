// Keys and values of many sequences of one layer, in pages that somebody else hands out.
// Not for: who owns which page (engine/dynamic_context.h, engine/static_context.h).
#pragma once

#include <memory>
#include <utility>

#include <ATen/core/Tensor.h>

#include "headway/ops/paged_attention.h"

namespace headway::nn {

/// Where the sequences of one forward keep their rows: one for all layers that share page ids.
/// Rewritten by its owner before every forward.
struct PageStep {
  at::Tensor block_table_NM;  // int32 [N, M], CPU: pages of the N sequences of the forward
  at::Tensor slots_T;  // int64 [T], CPU: page·B + row of each new token; negative = not kept
};

/// Whether keys lie in the pages as they are used, or before rotation (Megatron's static context
/// without flash decode: rotated anew at every step).
enum class CachedKeys { kRotated, kUnrotated };

/// One layer's share of a paged cache. Latent attention keeps its rows `[latent | k_pe]` as keys of
/// one head, and the indexer's keys (or nothing) in the place of values.
class PagedKv {
 public:
  /// k [P,B,G,K] and v [P,B,G,V] at any strides, channels contiguous; `step` is read at each call.
  PagedKv(at::Tensor k_PBGK, at::Tensor v_PBGV, std::shared_ptr<const PageStep> step,
          CachedKeys cached = CachedKeys::kRotated)
      : k_(std::move(k_PBGK)), v_(std::move(v_PBGV)), step_(std::move(step)), cached_(cached) {}

  CachedKeys cached() const { return cached_; }
  const at::Tensor& keys() const { return k_; }
  const at::Tensor& values() const { return v_; }

  /// Stores the rows of the new tokens [T,G,·]; returns what their queries read.
  ops::PagedKeys append(const at::Tensor& k_TGK, const at::Tensor& v_TGV);

  /// Bytes of all pages of this layer.
  int64_t bytes() const;

 private:
  at::Tensor k_;
  at::Tensor v_;
  std::shared_ptr<const PageStep> step_;
  CachedKeys cached_;
};

}  // namespace headway::nn
