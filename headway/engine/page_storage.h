// The one allocation that holds the pages of all layers, and the layers' views of it.
// Not for: which page belongs to whom (dynamic_context.h).
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include <ATen/core/Tensor.h>

#include "headway/engine/context_types.h"
#include "headway/engine/page_plan.h"
#include "headway/nn/layer_state.h"
#include "headway/ops/sequences.h"

namespace headway::engine {

/// Pages [blocks, page elements] in one tensor; layer l of group g sees its keys of page p at
/// [p, k_offset(l) …] as [block_size, kv heads, head dim], its values behind them.
class PageStorage {
 public:
  PageStorage(const PagePlan& plan, int64_t num_blocks, at::ScalarType dtype, at::Device device);

  /// What nn::Transformer::forward takes as its state.
  nn::ModelState& state();

  /// Tables and slots of the coming forward, and the sequences that go with them.
  ops::Sequences load(const ContextStep& step);

  /// Memory of the pages goes away; `offload` keeps a copy on the host that `restore` brings back
  /// bit for bit, after `drop` the contents are lost.
  void offload();
  void drop();
  void restore();
  bool allocated() const { return memory_.defined(); }

  int64_t bytes() const { return num_blocks_ * page_bytes_; }
  int64_t page_bytes() const { return page_bytes_; }
  /// [blocks, page elements]: for tests.
  const at::Tensor& memory() const { return memory_; }

 private:
  void build_state();

  PagePlan plan_;
  int64_t num_blocks_;
  int64_t page_bytes_;
  at::TensorOptions options_;
  at::Tensor memory_;
  at::Tensor host_copy_;
  std::vector<std::shared_ptr<nn::PageStep>> steps_;  // one a group
  nn::ModelState state_;
};

}  // namespace headway::engine
